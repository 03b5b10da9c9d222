// Key-value buckets in memory, in virtual time.

import { bytesIn, checkPayload, fault, invalid } from './faults.js';

const KEY_BYTES_MAX = 512;
const KEYS_MAX = 1000;

/** A local bucket; its methods are the contract's. */
export class Bucket {
    #slots = new Map();
    #writes = 0;
    #now;

    /** `now` gives the time in milliseconds. */
    constructor(now) { this.#now = now; }

    replicated() { return false; }

    get(key) {
        const slot = this.#live(key);
        return slot === undefined || slot.sum !== undefined ? undefined : { value: slot.value.slice(), version: slot.version };
    }

    set(key, value, ttlMs) { this.#write(key, value, ttlMs); }

    delete(key) { this.#slots.delete(key); }

    swap(key, expected, value) {
        if (this.get(key)?.version !== (expected ?? undefined)) throw fault('conflict', `${key} was written by somebody else`);
        return this.#write(key, value);
    }

    increment(key, delta) {
        checkKey(key);
        const slot = this.#live(key) ?? { sum: 0 };
        if (slot.sum === undefined) throw fault('conflict', `${key} holds a value`);
        this.#slots.set(key, { sum: slot.sum + delta });
        return slot.sum + delta;
    }

    keys(prefix, cursor, limit) {
        if (limit < 1 || limit > KEYS_MAX) throw invalid(`limit ${limit}: 1 to 1,000`);
        if (cursor && !cursor.startsWith(prefix)) throw invalid(`the cursor is not of prefix ${JSON.stringify(prefix)}`);
        const all = [...this.#slots.keys()].filter((key) => this.#live(key) && key.startsWith(prefix) && key >= (cursor ?? '')).sort();
        return { keys: all.slice(0, limit), next: all[limit] };
    }

    #write(key, value, ttlMs) {
        checkKey(key);
        checkPayload(value);
        if (this.#live(key)?.sum !== undefined) throw fault('conflict', `${key} is a counter`);
        this.#writes += 1;
        const expiresMs = ttlMs === undefined || ttlMs === null ? Infinity : this.#now() + ttlMs;
        this.#slots.set(key, { value: value.slice(), version: this.#writes, expiresMs });
        return this.#writes;
    }

    #live(key) {
        const slot = this.#slots.get(key);
        return slot === undefined || slot.expiresMs <= this.#now() ? undefined : slot;
    }
}

function checkKey(key) {
    const bytes = bytesIn(key);
    if (bytes < 1 || bytes > KEY_BYTES_MAX) throw invalid(`key of ${bytes} bytes: 1 to ${KEY_BYTES_MAX}`);
}
