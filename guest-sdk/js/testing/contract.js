// The contract's interfaces on the state of a fake host. They are given and throw what a component's engine gives and throws:
// records and the cases of variants.

import { Bucket } from './buckets.js';
import { contentInterface } from './content.js';
import { bytesIn, checkPayload, fault, invalid } from './faults.js';
import { isCode, isPattern, isTopic } from './names.js';

const CONTENT_TYPE_BYTES_MAX = 127;
const METADATA_PAIRS_MAX = 16;
const METADATA_BYTES_MAX = 4096;
const IDEMPOTENCY_KEY_BYTES_MAX = 64;
/** Of a subscription's queue, and of calls in flight. */
const WAITING_MAX = 65_536;
const CALL_TIMEOUT_MS = 5000;
const CALL_TIMEOUT_MS_MAX = 600_000;
const LEVELS = ['trace', 'debug', 'info', 'warn', 'error'];

/** Who is who in tests. */
export const PRINCIPAL = 'did:key:z6MkfakePrincipal';
export const PEER = 'did:key:z6MkfakePeer';
const NODE = 'did:key:z6MkfakeNode';

export function contractOf(state) {
    return {
        pubsub: pubsub(state),
        rpc: rpc(state),
        content: contentInterface(state.content),
        kv: { open: (name) => bucketOf(state, name) },
        timers: timers(state),
        log: log(state),
        config: { get: (key) => state.settings.get(key), all: () => [...state.settings].sort(([a], [b]) => (a < b ? -1 : 1)) },
        identity: {
            pluginName: () => state.manifest.name,
            pluginVersion: () => state.manifest.version,
            component: () => state.component,
            principal: () => PRINCIPAL,
            node: () => NODE,
            realm: () => 'local.dev',
            instance: () => ({ index: 0, count: 1 }),
            can: (command, target) => isPattern(target) && state.rights.covers(command, target),
        },
        trace: { current: () => state.trace },
    };
}

function pubsub(state) {
    return {
        publish(topic, payload, options) {
            const asked = { delivery: 'ordered', retain: false, contentType: '', metadata: [], ...options };
            checkTopic(topic);
            checkPayload(payload);
            checkContentType(asked.contentType);
            checkMetadata(asked.metadata);
            check(state, '/mesh/publish', topic);
            const { delivery, retain, contentType } = asked;
            const metadata = Object.fromEntries(asked.metadata);
            state.published.push(withText({ topic, payload: payload.slice(), contentType, delivery, retain, metadata }));
            state.sequence += 1;
            if (retain) state.retain(topic, payload, { contentType, publisher: PRINCIPAL, seq: state.sequence, metadata: asked.metadata });
            return { epoch: 1, seq: state.sequence, level: delivery === 'acked' ? 'relay-memory' : 'host' };
        },
        retained(topic) {
            checkTopic(topic);
            check(state, '/mesh/subscribe', topic);
            const kept = state.retained.get(topic);
            return kept === undefined ? undefined : { ...kept, payload: kept.payload.slice() };
        },
        subscribe(pattern, options) {
            if (!isPattern(pattern)) throw invalid(`${JSON.stringify(pattern)} is not a pattern such as sensors.*.temperature`);
            checkWaiting('a queue of', options?.queueMessages);
            if (!state.abilities.message) throw invalid('a subscription needs a message handler');
            check(state, '/mesh/subscribe', pattern);
            const known = claimed(state, 'subscriptions', (each) => each.id !== 0 && each.pattern === pattern, pattern, () => {
                state.subscriptionLast += 1;
                return { id: state.subscriptionLast, pattern, delivered: 0 };
            });
            return {
                id: () => known.id,
                pattern: () => pattern,
                stats: () => ({ delivered: known.delivered, dropped: 0, queued: 0 }),
                unsubscribe: () => { state.subscriptions = state.subscriptions.filter((each) => each !== known); },
            };
        },
    };
}

function rpc(state) {
    return {
        call(procedure, payload, options) {
            const asked = { timeoutMs: CALL_TIMEOUT_MS, contentType: '', idempotencyKey: '', metadata: [], ...options };
            let answer;
            try {
                checkCall(procedure, payload, asked);
                check(state, '/mesh/call', procedure);
                // Never more than the caller of the handler that runs has left.
                const timeLeftMs = Math.min(asked.timeoutMs, state.timeLeftMs);
                const { contentType, idempotencyKey } = asked;
                const request = { procedure, payload: payload.slice(), contentType, idempotencyKey, caller: PRINCIPAL, timeLeftMs, metadata: Object.fromEntries(asked.metadata) };
                state.called.push(withText(request));
                answer = state.answers.get(procedure);
                if (answer === undefined) {
                    const own = state.offers.some((offer) => offer.procedure === procedure);
                    throw own ? fault('unavailable', `only the instance that calls offers ${procedure}`) : fault('not-found', `nobody offers ${procedure}`);
                }
            } catch (thrown) {
                throw fault('not-run', thrown);
            }
            return answer(state.called.at(-1));
        },
        advertise(procedure, options) {
            checkTopic(procedure);
            checkMetadata(options?.metadata ?? []);
            checkWaiting('calls in flight:', options?.inFlightMax);
            if (!state.abilities.call) throw invalid('an offer needs a call handler');
            check(state, '/mesh/advertise', procedure);
            const known = claimed(state, 'offers', (each) => !each.fromManifest && each.procedure === procedure, procedure, () => ({ procedure }));
            return { procedure: () => procedure, withdraw: () => { state.offers = state.offers.filter((each) => each !== known); } };
        },
    };
}

/** Takes over what the instance before had, or begins it. */
function claimed(state, list, is, name, begin) {
    const known = state[list].find(is);
    if (known?.claimed) throw fault('conflict', `this instance already has ${name}`);
    if (known !== undefined) {
        known.claimed = true;
        return known;
    }
    const max = state.manifest.limits.subscriptions;
    if (state[list].length >= max) throw fault('quota-exceeded', `${max} ${list}`);
    const begun = { ...begin(), claimed: true };
    state[list].push(begun);
    return begun;
}

function timers(state) {
    const handled = () => {
        if (!state.abilities.timer) throw invalid('a timer needs a timer handler');
    };
    return {
        after(name, delayMs) {
            handled();
            state.timers.after(name, state.nowMs, delayMs);
        },
        every(name, periodMs) {
            handled();
            state.timers.every(name, state.nowMs, periodMs);
        },
        cancel: (name) => state.timers.cancel(name),
    };
}

function log(state) {
    const enabled = (level) => LEVELS.indexOf(level) >= LEVELS.indexOf(state.logLevel);
    return {
        enabled,
        write(level, target, message, fields) {
            if (enabled(level)) state.logged.push({ level, target, message, fields: Object.fromEntries(fields) });
        },
    };
}

/** Every bucket can be opened: a manifest cannot declare them yet. */
function bucketOf(state, name) {
    if (!state.buckets.has(name)) state.buckets.set(name, new Bucket(() => state.nowMs));
    return state.buckets.get(name);
}

function check(state, command, target) {
    if (state.rights.covers(command, target)) return;
    state.denied.push(`${command} ${target}`);
    throw fault('denied', `${command} ${target}`);
}

function checkTopic(topic) {
    if (!isTopic(topic)) throw invalid(`${JSON.stringify(topic)} is not a topic: 1 to 16 segments of [A-Za-z0-9_-]{1,63} joined by dots`);
}

function checkContentType(contentType) {
    if (bytesIn(contentType) > CONTENT_TYPE_BYTES_MAX) throw invalid(`content type: at most ${CONTENT_TYPE_BYTES_MAX} bytes`);
}

function checkMetadata(metadata) {
    for (const [name, value] of metadata) {
        if (typeof value !== 'string') throw new TypeError(`metadata ${name}: expected a text`);
        if (!isCode(name)) throw invalid(`metadata name ${JSON.stringify(name)}: 1 to 64 characters of [a-z0-9-]`);
        if (name.startsWith('macula-')) throw invalid(`metadata name ${JSON.stringify(name)} belongs to the platform`);
    }
    const bytes = metadata.reduce((sum, [name, value]) => sum + bytesIn(name) + bytesIn(value), 0);
    if (metadata.length > METADATA_PAIRS_MAX || bytes > METADATA_BYTES_MAX) {
        throw invalid(`metadata: at most ${METADATA_PAIRS_MAX} pairs, 4,096 bytes together`);
    }
}

function checkCall(procedure, payload, { timeoutMs, idempotencyKey, contentType, metadata }) {
    checkTopic(procedure);
    checkPayload(payload);
    if (!(timeoutMs >= 1 && timeoutMs <= CALL_TIMEOUT_MS_MAX)) throw invalid(`timeout of ${timeoutMs} ms: 1 ms to 10 min`);
    if (bytesIn(idempotencyKey) > IDEMPOTENCY_KEY_BYTES_MAX) throw invalid(`idempotency key: at most ${IDEMPOTENCY_KEY_BYTES_MAX} bytes`);
    checkContentType(contentType);
    checkMetadata(metadata);
}

function checkWaiting(what, number) {
    if (number !== undefined && !(number >= 1 && number <= WAITING_MAX)) throw invalid(`${what} ${number}: 1 to 65,536`);
}

const READING = {
    text() { return new TextDecoder('utf-8', { fatal: true }).decode(this.payload); },
    json() { return JSON.parse(this.text()); },
};

/** Gives what a test looks at `text()` and `json()`, which a comparison does not see. */
function withText(record) {
    for (const [name, value] of Object.entries(READING)) Object.defineProperty(record, name, { value });
    return record;
}
