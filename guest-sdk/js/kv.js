import * as contract from 'macula:plugin/kv@0.1.0';
import { lift } from './errors.js';
import { asBytes, asNumbers } from './lifted.js';
import { bytesOf } from './payload.js';

function ask(what) {
    try {
        return what();
    } catch (thrown) {
        throw lift(thrown);
    }
}

class Bucket {
    #bucket;
    constructor(bucket) { this.#bucket = bucket; }

    replicated() { return this.#bucket.replicated(); }

    get(key) {
        const entry = ask(() => this.#bucket.get(key)) ?? undefined;
        if (entry === undefined) return undefined;
        entry.value = asBytes(entry.value);
        return asNumbers(entry, 'version');
    }

    set(key, value, ttlMs) { ask(() => this.#bucket.set(key, bytesOf(value), ttlMs)); }

    delete(key) { ask(() => this.#bucket.delete(key)); }

    swap(key, expected, value) { return Number(ask(() => this.#bucket.swap(key, expected?.version, bytesOf(value)))); }

    increment(key, delta = 1) { return Number(ask(() => this.#bucket.increment(key, delta))); }

    keys(prefix = '', cursor = undefined, limit = 1000) {
        const page = ask(() => this.#bucket.keys(prefix, cursor, limit));
        return { keys: page.keys, next: page.next ?? undefined };
    }
}

export function openBucket(name) {
    return new Bucket(ask(() => contract.open(name)));
}
