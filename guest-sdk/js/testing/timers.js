// The plugin's timers by name, in virtual time.

import { bytesIn, fault, invalid } from './faults.js';

/** The shortest period the contract allows. */
const PERIOD_MS_MIN = 10;
const NAME_BYTES_MAX = 64;

export class Timers {
    #timers = new Map();
    #max;

    constructor(max) { this.#max = max; }

    get names() { return [...this.#timers.keys()].sort(); }

    after(name, nowMs, delayMs) {
        this.#check(name);
        this.#timers.set(name, { dueMs: nowMs + delayMs, periodMs: 0 });
    }

    every(name, nowMs, periodMs) {
        this.#check(name);
        if (periodMs < PERIOD_MS_MIN) throw invalid(`period of ${periodMs} ms: at least ${PERIOD_MS_MIN} ms`);
        // The same again keeps its rhythm.
        if (this.#timers.get(name)?.periodMs !== periodMs) this.#timers.set(name, { dueMs: nowMs + periodMs, periodMs });
    }

    cancel(name) { return this.#timers.delete(name); }

    /** Takes the next tick that is due until then: the earliest, among equals the first by name. */
    takeDue(untilMs) {
        const due = this.names.map((name) => ({ name, ...this.#timers.get(name) })).filter(({ dueMs }) => dueMs <= untilMs);
        if (due.length === 0) return undefined;
        const { name, dueMs, periodMs } = due.reduce((first, next) => (next.dueMs < first.dueMs ? next : first));
        if (periodMs === 0) this.#timers.delete(name);
        else this.#timers.set(name, { dueMs: dueMs + periodMs, periodMs });
        return { name, dueMs, missed: 0 };
    }

    #check(name) {
        const bytes = bytesIn(name);
        if (bytes < 1 || bytes > NAME_BYTES_MAX) throw invalid(`timer name ${JSON.stringify(name)}: 1 to ${NAME_BYTES_MAX} bytes`);
        if (!this.#timers.has(name) && this.#timers.size >= this.#max) throw fault('quota-exceeded', `${this.#max} timers`);
    }
}
