// One run of a plugin's modules, with what stands between `export default` and the contract.

import { register } from 'node:module';

/** What a plugin may have, and the handlers that its component exports for it. */
const KEYS = {
    subscriptions: ['lifecycle', 'message'], onMessage: ['message'], procedures: ['lifecycle', 'call'], onCall: ['call'],
    timers: ['lifecycle', 'timer'], onTimer: ['timer'], onStart: ['lifecycle'], onHealth: ['lifecycle'], onStop: ['lifecycle'],
    onConfigChange: ['config'], onRightsChange: ['config'], snapshot: ['state'], restore: ['state'], name: [], version: [],
};

/** What opens the plugin's lists when it starts, before its own start. */
const OPENERS = { subscriptions: 'openSubscriptions', procedures: 'openProcedures', timers: 'openTimers' };

const SDK = new URL('../', import.meta.url);

/** Interfaces by instance: what modules ask for that the hooks have made. */
const interfaces = new Map();

let registered = false;

function prepare(contract) {
    if (registered) return;
    registered = true;
    globalThis[Symbol.for('macula.testing')] = (number, name) => interfaces.get(number)[name];
    const names = Object.fromEntries(Object.entries(contract).map(([name, functions]) => [name, Object.keys(functions)]));
    register('./hooks.js', import.meta.url, { data: { sdk: SDK.href, names } });
}

/**
 * Loads the module at a URL, with a host's interfaces, and gives its handlers by their names in the contract, without
 * "-handler". What the modules do at once runs when a component is built: there is no host then, and none here.
 */
export async function loadInstance(entry, contract) {
    prepare(contract);
    const number = interfaces.size + 1;
    const life = { begun: false };
    interfaces.set(number, Object.fromEntries(Object.entries(contract).map(([name, functions]) => [name, guarded(functions, life)])));
    const own = async (url) => {
        const numbered = new URL(url);
        numbered.searchParams.set('macula-instance', number);
        return import(numbered.href);
    };
    const plugin = (await own(entry)).default;
    if (plugin === null || typeof plugin !== 'object') throw new Error('a plugin is an object: export default { onMessage(message) { … } }');
    const names = new Set();
    for (const key of Object.keys(plugin)) {
        if (!Object.hasOwn(KEYS, key)) throw new Error(`a plugin has no \`${key}\`; it may have ${Object.keys(KEYS).join(', ')}`);
        KEYS[key].forEach((name) => names.add(name));
    }
    if (names.size === 0) throw new Error('this plugin handles nothing');
    const openers = [];
    for (const [key, opener] of Object.entries(OPENERS)) {
        if (Object.hasOwn(plugin, key)) openers.push((await own(new URL(`exports/${key}.js`, SDK)))[opener]);
    }
    const handlers = {};
    for (const name of names) handlers[name] = (await own(new URL(`exports/${name}.js`, SDK)))[name](plugin, openers);
    life.begun = true;
    return handlers;
}

/** The functions of an interface, which fail until the instance has begun. */
function guarded(functions, life) {
    const wrap = ([name, value]) => {
        // Classes, for resources with functions of their own, begin with a capital letter.
        if (/^[A-Z]/.test(name)) return [name, value];
        return [name, (...given) => {
            if (!life.begun) throw new Error('top-level code runs when a plugin is built: there is no host; ask it in a handler');
            return value(...given);
        }];
    };
    return Object.fromEntries(Object.entries(functions).map(wrap));
}
