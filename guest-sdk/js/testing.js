// A host for one plugin, in the process of its tests: `node --test` needs no WebAssembly then. See README.md.

import { existsSync, readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { CallError, HandlerError, lift } from './errors.js';
import { handlerErrorOf } from './failures.js';
import { bytesOf, typeOf } from './payload.js';
import { at } from './testing/clock.js';
import { PEER, contractOf } from './testing/contract.js';
import { ContentStore, contentId } from './testing/content.js';
import { loadInstance } from './testing/instance.js';
import { readManifest } from './testing/manifest.js';
import { covers, isCode, isTopic } from './testing/names.js';
import { Timers } from './testing/timers.js';

export { MaculaError, CallError, HandlerError, DecodeError } from './errors.js';

/** When every test begins: 2026-01-01, in milliseconds since 1970-01-01 UTC. */
const BEGIN_MS = Date.UTC(2026, 0, 1);
/** How long callers wait in tests, when the test does not say; and how long a plugin has to stop. */
const PATIENCE_MS = 5000;
/** A timer that its own tick sets to now again would keep time from passing. */
const TICKS_AT_ONCE_MAX = 100_000;
/** What the contract allows an answer, and the details of an error. */
const ANSWER_BYTES_MAX = 1 << 20;
const DETAILS_BYTES_MAX = 64 << 10;

export class FakeHost {
    #state;
    #entry;
    #handlers;
    #busy = false;
    #stopped = false;
    #delivered = 0;

    constructor(entry, state) {
        this.#entry = entry;
        this.#state = state;
    }

    /** Starts the plugin of a folder. Throws what its start throws, and what a host would refuse. */
    static async start({ folder = '.', manifest, plugin, config = {}, answers = {}, logLevel = 'trace', trace } = {}) {
        const root = typeof folder === 'string' ? resolve(folder) : fileURLToPath(folder);
        const state = new State(readManifest(manifestIn(root, manifest)));
        for (const [key, value] of Object.entries(config)) state.settings.set(key, settingText(value));
        Object.assign(state, { logLevel, trace });
        const host = new FakeHost(pathToFileURL(resolve(root, plugin ?? entryIn(root))), state);
        for (const [procedure, answer] of Object.entries(answers)) host.answer(procedure, answer);
        await host.#load();
        state.checkHandlers();
        host.#start('fresh');
        return host;
    }

    /** Messages that the plugin has published and the test has not taken yet; likewise calls, log entries and denials. */
    get published() { return this.#state.published; }
    get called() { return this.#state.called; }
    get logged() { return this.#state.logged; }
    get denied() { return this.#state.denied; }

    takePublished() { return this.#state.published.splice(0); }
    takeCalled() { return this.#state.called.splice(0); }
    takeLogged() { return this.#state.logged.splice(0); }
    takeDenied() { return this.#state.denied.splice(0); }

    /** What is open now. */
    get subscriptions() { return this.#state.subscriptions.map(({ pattern }) => pattern); }
    get offers() { return this.#state.offers.map(({ procedure }) => procedure); }
    get timers() { return this.#state.timers.names; }

    /** The virtual time, in milliseconds since 1970-01-01 UTC. */
    get nowMs() { return this.#state.nowMs; }

    /** Delivers a message to each subscription that matches; gives what became of it: the first that is not an ack. */
    deliver(topic, payload, more = {}) {
        if (!isTopic(topic)) throw new Error(`${JSON.stringify(topic)} is not a topic`);
        this.#delivered += 1;
        const message = this.#state.message(topic, bytesOf(payload), { contentType: typeOf(payload), seq: this.#delivered, ...given(more) });
        const matching = this.#state.subscriptions.filter(({ pattern }) => covers(pattern, topic));
        if (matching.length === 0) throw new Error(`the plugin is not subscribed to ${topic}, only to ${this.subscriptions.join(', ')}`);
        let outcome = { tag: 'ack' };
        for (const subscription of matching) {
            if (message.attempt === 1) subscription.delivered += 1;
            const copy = { ...message, payload: message.payload.slice(), subscription: subscription.id };
            const own = this.#run(() => this.#handlers.message.onMessage(copy));
            if (outcome.tag === 'ack') outcome = own;
        }
        return outcomeOf(outcome);
    }

    /** Calls a procedure of the plugin, and gives the answer's bytes. Throws a HandlerError. */
    call(procedure, payload, more = {}) {
        if (!this.offers.includes(procedure)) throw new Error(`the plugin does not offer ${procedure}, only ${this.offers.join(', ')}`);
        const request = {
            procedure, payload: bytesOf(payload), contentType: typeOf(payload), caller: PEER, timeLeftMs: PATIENCE_MS, idempotencyKey: '', metadata: [],
            ...given(more),
        };
        let answer;
        try {
            answer = this.#run(() => this.#handlers.call.onCall(request), request.timeLeftMs);
        } catch (thrown) {
            throw asHandlerError(thrown);
        }
        if (answer.length > ANSWER_BYTES_MAX) throw new Error(`an answer of ${answer.length} bytes: at most 1 MiB`);
        return answer;
    }

    /** The same, with the answer as JSON. */
    callJSON(procedure, payload, more) {
        return JSON.parse(new TextDecoder().decode(this.call(procedure, payload, more)));
    }

    /**
     * Lets time pass: timers that fall due tick in order, each at its own time. Gives how many did. Throws the first error of a
     * tick, when all have ticked.
     */
    advance(milliseconds) {
        const untilMs = this.#state.nowMs + milliseconds;
        const errors = [];
        let [ticks, atOnce, last] = [0, 0, 0];
        for (;;) {
            const tick = this.#state.timers.takeDue(untilMs);
            if (tick === undefined) break;
            atOnce = tick.dueMs > last ? 1 : atOnce + 1;
            last = Math.max(last, tick.dueMs);
            if (atOnce > TICKS_AT_ONCE_MAX) throw new Error(`timer ${tick.name} is set to the same time again and again`);
            // A timer that was set to a time before now does not turn time back.
            this.#state.nowMs = Math.max(this.#state.nowMs, tick.dueMs);
            ticks += 1;
            try {
                this.#told(() => this.#handlers.timer.onTimer(tick));
            } catch (error) {
                errors.push(error);
            }
        }
        this.#state.nowMs = Math.max(this.#state.nowMs, untilMs);
        if (errors.length > 0) throw errors[0];
        return ticks;
    }

    /**
     * Answers the plugin's calls of a procedure from now on: a payload; an error, for the plugin to see; or a function of the
     * request that gives a payload or throws. A CallError is one of the way, every other error the handler's own.
     */
    answer(procedure, answer) {
        this.#state.answers.set(procedure, (request) => {
            try {
                if (answer instanceof Error) throw answer;
                return bytesOf(typeof answer === 'function' ? answer(request) : answer).slice();
            } catch (thrown) {
                throw callFailureOf(thrown);
            }
        });
    }

    /** Keeps a topic's last value; without a payload, forgets it. */
    retain(topic, payload) {
        this.#state.retain(topic, bytesOf(payload), { contentType: typeOf(payload) });
    }

    /** Stores content that the plugin may fetch by right, and gives its id. */
    content(payload) { return this.#state.content.put(bytesOf(payload)); }

    isPinned(mcid) { return this.#state.content.pinned.has(mcid); }

    /** A value of one of the plugin's buckets. */
    stored(bucket, key) { return this.#state.buckets.get(bucket)?.get(key)?.value; }

    /** Grants a right, such as '/mesh/publish', and tells the plugin. */
    allow(command, pattern) { this.#changeRights('allow', command, pattern); }

    /** Takes a right, ends what is no longer allowed, and tells the plugin. */
    deny(command, pattern) { this.#changeRights('deny', command, pattern); }

    /**
     * Changes a setting, as an operator does. A plugin without onConfigChange is replaced by a new instance. On an error, which
     * is thrown, the old setting is back.
     */
    async setConfig(key, value) {
        const before = new Map(this.#state.settings);
        this.#state.settings.set(key, settingText(value));
        try {
            if (this.#handlers.config === undefined) await this.replace();
            else this.#told(() => this.#handlers.config.onConfigChanged([key]));
        } catch (error) {
            this.#state.settings = before;
            throw error;
        }
    }

    /** What the plugin thinks of itself: { tag: 'healthy' }, or 'degraded' or 'unhealthy' with the text as val. */
    health() {
        return this.#handlers.lifecycle === undefined ? { tag: 'healthy' } : this.#run(() => this.#handlers.lifecycle.health());
    }

    /**
     * Puts a new instance in place of the old one, as a new version does: its start and health; the old one's snapshot, the new
     * one's restore, the old one's stop. Throws errors of the steps; the old one then works on.
     */
    async replace() {
        this.#check();
        const old = this.#handlers;
        const before = this.#state.releaseClaims();
        try {
            await this.#load();
            this.#start('replacing');
            const health = this.health();
            if (health.tag === 'unhealthy') throw lift({ tag: 'other', val: `unhealthy: ${health.val}` });
            if (this.#handlers.state !== undefined) {
                const snapshot = old.state === undefined ? undefined : this.#told(() => old.state.snapshot());
                if (snapshot !== undefined) this.#told(() => this.#handlers.state.restore(snapshot, this.#state.manifest.version));
            }
        } catch (error) {
            this.#handlers = old;
            this.#state.restoreClaims(before);
            throw error;
        }
        this.#state.endUnclaimed();
        if (old.lifecycle !== undefined) this.#run(() => old.lifecycle.shutdown('replaced', PATIENCE_MS));
    }

    /** Ends the instance as a trap does, and starts the next. */
    async crash() {
        this.#check();
        this.#state.releaseClaims();
        await this.#load();
        this.#start('restarted');
        this.#state.endUnclaimed();
    }

    /** Stops the plugin. Afterwards there is nothing more to be asked of it. */
    stop() {
        if (this.#handlers.lifecycle !== undefined) this.#run(() => this.#handlers.lifecycle.shutdown('stopped', PATIENCE_MS));
        this.#stopped = true;
    }

    /** Runs the plugin's modules anew. */
    async #load() {
        this.#handlers = await loadInstance(this.#entry, contractOf(this.#state));
        const { message, call, timer } = this.#handlers;
        this.#state.abilities = { message: message !== undefined, call: call !== undefined, timer: timer !== undefined };
    }

    #start(reason) {
        if (this.#handlers.lifecycle !== undefined) this.#told(() => this.#handlers.lifecycle.init(reason));
    }

    #changeRights(change, command, pattern) {
        this.#state.rights[change](command, pattern);
        this.#state.endForbidden();
        if (this.#handlers.config !== undefined) this.#run(() => this.#handlers.config.onRightsChanged());
    }

    #check() {
        if (this.#stopped) throw new Error('the plugin was stopped');
        if (this.#busy) throw new Error('a handler of this plugin runs: an instance does one thing at a time');
    }

    #run(handler, timeLeftMs = Infinity) {
        this.#check();
        this.#busy = true;
        this.#state.timeLeftMs = timeLeftMs;
        try {
            return at(this.#state.nowMs, handler);
        } finally {
            this.#busy = false;
        }
    }

    /** Runs a handler whose errors are told to the host, and throws them as the plugin would see them. */
    #told(handler) {
        try {
            return this.#run(handler);
        } catch (thrown) {
            throw lift(thrown);
        }
    }
}

/** Everything the host knows. It outlives the plugin's instances. */
class State {
    nowMs = BEGIN_MS;
    abilities = { message: true, call: true, timer: true };
    published = [];
    called = [];
    logged = [];
    denied = [];
    sequence = 0;
    subscriptionLast = 0;
    answers = new Map();
    retained = new Map();
    buckets = new Map();
    timeLeftMs = Infinity;

    constructor(manifest) {
        this.manifest = manifest;
        this.rights = manifest.rights;
        this.settings = manifest.settings;
        this.timers = new Timers(manifest.limits.timers);
        this.content = new ContentStore(this.rights);
        this.component = contentId(new TextEncoder().encode(manifest.name));
        this.subscriptions = manifest.subscriptions.map((pattern) => ({ id: 0, pattern, delivered: 0, claimed: true }));
        this.offers = manifest.procedures.map((procedure) => ({ procedure, fromManifest: true, claimed: true }));
    }

    /** Finds what the manifest opens and no handler is for. */
    checkHandlers() {
        if (!this.abilities.message && this.manifest.subscriptions.length > 0) {
            throw new Error('macula.toml has [[subscriptions]], but the plugin has neither onMessage nor subscriptions');
        }
        if (!this.abilities.call && this.manifest.procedures.length > 0) {
            throw new Error('macula.toml has [[procedures]], but the plugin has neither onCall nor procedures');
        }
    }

    message(topic, payload, more) {
        return {
            topic, payload, contentType: '', publisher: PEER, epoch: 1, seq: 1, timestampMs: this.nowMs, attempt: 1, retained: false, subscription: 0,
            metadata: [], ...more,
        };
    }

    retain(topic, payload, more) {
        if (payload.length === 0) this.retained.delete(topic);
        else this.retained.set(topic, this.message(topic, payload.slice(), { ...more, retained: true }));
    }

    /** The next instance takes over what it asks for again; the rest ends. Gives what this one had. */
    releaseClaims() {
        const before = [...this.subscriptions, ...this.offers];
        for (const each of before) each.claimed = each.id === 0 || each.fromManifest === true;
        return before;
    }

    /** Lets the old instance work on with what it had. */
    restoreClaims(before) {
        for (const each of [...this.subscriptions, ...this.offers]) each.claimed = before.includes(each);
        this.endUnclaimed();
    }

    endUnclaimed() {
        this.subscriptions = this.subscriptions.filter((each) => each.claimed);
        this.offers = this.offers.filter((each) => each.claimed);
    }

    endForbidden() {
        this.subscriptions = this.subscriptions.filter(({ pattern }) => this.rights.covers('/mesh/subscribe', pattern));
        this.offers = this.offers.filter(({ procedure }) => this.rights.covers('/mesh/advertise', procedure));
    }
}

function manifestIn(root, manifest) {
    if (manifest !== undefined && !/^[^\n=]*\.toml$/.test(manifest)) return manifest;
    const file = resolve(root, manifest ?? 'macula.toml');
    if (!existsSync(file)) throw new Error(`there is no ${file}; give the plugin's folder as \`folder\`, or the text as \`manifest\``);
    return readFileSync(file, 'utf8');
}

/** The first module, as the builder finds it. */
function entryIn(root) {
    const { main } = JSON.parse(readFileSync(resolve(root, 'package.json'), 'utf8'));
    const entry = main ?? ['src/index.ts', 'src/index.js', 'index.ts', 'index.js'].find((file) => existsSync(resolve(root, file)));
    if (entry === undefined) throw new Error('package.json has no "main", and there is none of src/index.ts, src/index.js, index.ts, index.js');
    return entry;
}

/** Settings are text; lists and tables are JSON. */
function settingText(value) {
    return typeof value === 'string' ? value : JSON.stringify(value);
}

/** Metadata may be given as an object. */
function given({ metadata, ...more }) {
    return metadata === undefined ? more : { ...more, metadata: Array.isArray(metadata) ? metadata : Object.entries(metadata) };
}

function outcomeOf({ tag, val }) {
    switch (tag) {
        case 'retry': return { outcome: tag, ...(val === undefined ? {} : { delayMs: val }) };
        case 'reject': case 'dead-letter': return { outcome: tag, reason: val };
        default: return { outcome: tag };
    }
}

/** A handler's no, held against the contract. */
function asHandlerError(thrown) {
    if (thrown instanceof Error) return thrown;
    const { code, message, data } = thrown;
    if (!isCode(code)) return new Error(`the code ${JSON.stringify(code)}: 1 to 64 characters of [a-z0-9-]`);
    if (data.length > DETAILS_BYTES_MAX) return new Error(`details of ${data.length} bytes: at most 64 KiB`);
    return new HandlerError(code, message, data);
}

/** What the plugin sees of what an answer has thrown. */
function callFailureOf(thrown) {
    if (!(thrown instanceof CallError)) return { tag: 'handler', val: handlerErrorOf(thrown) };
    const { code, text, bytesMax } = thrown.cause;
    return { tag: thrown.outcome, val: { tag: code, val: code === 'too-large' ? bytesMax : text } };
}
