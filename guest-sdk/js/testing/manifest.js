// What macula.toml says, as far as the fake host acts by it. As with the real one, a key that does not exist is an error.

import { Float, parse } from './toml.js';
import { isContentId, isPattern, isReserved, isTopic } from './names.js';
import { Rights } from './rights.js';

const KEYS = [
    'name', 'version', 'description', 'subscribe', 'publish', 'advertise', 'call', 'fetch', 'config', 'limits', 'subscriptions', 'procedures',
];

/** Of the limits, a test meets `timers` and `subscriptions`; the others are about memory, time and queues. */
const LIMITS = {
    'memory-mib': [1, 4095], 'handler-ms': [10, 600_000], timers: [0, 65_536], subscriptions: [0, 4096], 'queue-messages': [1, 65_536],
    'log-bytes-per-s': [0, 16 << 20], 'cpu-ms-per-s': [0, 64_000], 'publish-per-s': [0, 10_000_000],
    'host-calls-per-s': [0, 100_000_000], 'evict-after-s': [0, 2_592_000], instances: [1, 64],
};

/** Reads a manifest. Throws an Error that says what a host would refuse. */
export function readManifest(text) {
    try {
        return checked(parse(text));
    } catch (error) {
        throw new Error(`macula.toml: ${error.message}`, { cause: error });
    }
}

function checked(root) {
    only(root, KEYS);
    const rights = new Rights();
    for (const command of ['subscribe', 'publish', 'advertise', 'call', 'fetch']) {
        for (const pattern of texts(root, command)) rights.allow(`/mesh/${command}`, askable(command, pattern));
    }
    const name = text(root, 'name') ?? 'plugin';
    if (!/^[a-z0-9-]{1,63}$/.test(name)) throw new Error(`${JSON.stringify(name)} is no name of a plugin: 1 to 63 characters of [a-z0-9-]`);
    text(root, 'description');
    return {
        name,
        version: text(root, 'version') ?? '',
        rights,
        settings: settingsOf(table(root, 'config')),
        limits: { timers: 256, subscriptions: 64, ...limitsOf(table(root, 'limits')) },
        subscriptions: opened(root, 'subscriptions', 'pattern', isPattern, (pattern) => {
            if (!rights.covers('/mesh/subscribe', pattern)) throw new Error(`[[subscriptions]] has "${pattern}", for which \`subscribe\` does not ask`);
        }),
        procedures: opened(root, 'procedures', 'procedure', isTopic, (procedure) => {
            if (!rights.covers('/mesh/advertise', procedure)) throw new Error(`[[procedures]] has "${procedure}", for which \`advertise\` does not ask`);
        }),
    };
}

function askable(command, pattern) {
    if (command === 'fetch' && pattern !== '**' && !isContentId(pattern)) {
        throw new Error(`"${pattern}" is no content id; \`fetch\` takes ids, or "**" for all`);
    }
    if (!isPattern(pattern)) throw new Error(`"${pattern}" is not a pattern`);
    if (isReserved(pattern) && command !== 'subscribe') {
        throw new Error(`"${pattern}" begins with '_', and such names are the system's: they can only be subscribed to`);
    }
    return pattern;
}

/** The patterns or procedures that are open from the start. */
function opened(root, key, named, is, check) {
    const names = [];
    for (const element of list(root, key)) {
        if (!(element instanceof Map)) throw new Error(`${key}: expected a table`);
        only(element, key === 'subscriptions' ? ['pattern', 'when-full', 'queue-messages', 'retained'] : ['procedure']);
        const name = text(element, named);
        if (name === undefined) throw new Error(`${key}: missing field \`${named}\``);
        if (!is(name)) throw new Error(`${key}: "${name}" is not a ${named === 'pattern' ? 'pattern' : 'topic'}`);
        if (names.includes(name)) throw new Error(`${key}: "${name}" is there twice`);
        const whenFull = text(element, 'when-full');
        if (whenFull !== undefined && !['drop-oldest', 'latest-only', 'block'].includes(whenFull)) {
            throw new Error(`unknown variant \`${whenFull}\`, expected one of \`drop-oldest\`, \`latest-only\`, \`block\``);
        }
        check(name);
        names.push(name);
    }
    return names;
}

function limitsOf(limits) {
    only(limits, Object.keys(LIMITS));
    for (const [key, value] of limits) {
        const [min, max] = LIMITS[key];
        if (!Number.isInteger(value) || value < min || value > max) throw new Error(`limits.${key}: expected an integer of ${min} to ${max}`);
    }
    return Object.fromEntries(limits);
}

/** Tables become dotted keys, everything else text. */
export function settingsOf(config, prefix = '') {
    const settings = new Map();
    for (const [key, value] of config) {
        if (value instanceof Map) settingsOf(value, `${prefix}${key}.`).forEach((text, name) => settings.set(name, text));
        else settings.set(prefix + key, typeof value === 'string' ? value : jsonOf(value));
    }
    return settings;
}

/** A value as JSON; for numbers and booleans that is also their text. */
function jsonOf(value) {
    if (value instanceof Float) return Number.isInteger(value.value) ? value.value.toFixed(1) : String(value.value);
    if (Array.isArray(value)) return `[${value.map(jsonOf).join(',')}]`;
    if (value instanceof Map) return `{${[...value].map(([key, member]) => `${JSON.stringify(key)}:${jsonOf(member)}`).join(',')}}`;
    return JSON.stringify(value);
}

function only(within, known) {
    for (const key of within.keys()) {
        if (!known.includes(key)) throw new Error(`unknown field \`${key}\`, expected one of ${known.map((name) => `\`${name}\``).join(', ')}`);
    }
}

function text(within, key) {
    const value = within.get(key);
    if (value !== undefined && typeof value !== 'string') throw new Error(`${key}: expected a string`);
    return value;
}

function table(within, key) {
    const value = within.get(key) ?? new Map();
    if (!(value instanceof Map)) throw new Error(`${key}: expected a table`);
    return value;
}

function list(within, key) {
    const value = within.get(key) ?? [];
    if (!Array.isArray(value)) throw new Error(`${key}: expected an array`);
    return value;
}

function texts(within, key) {
    return list(within, key).map((value) => {
        if (typeof value !== 'string') throw new Error(`${key}: expected a string`);
        return value;
    });
}
