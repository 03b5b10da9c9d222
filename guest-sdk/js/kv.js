import * as contract from 'macula:plugin/kv@0.1.0';
import { lift } from './errors.js';
import { asBytes, asNumbers } from './lifted.js';
import { named } from './names.js';
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
        const entry = ask(() => this.#bucket.get(named('key', key))) ?? undefined;
        if (entry === undefined) return undefined;
        entry.value = asBytes(entry.value);
        return asNumbers(entry, 'version');
    }

    set(key, value, ttlMs) { ask(() => this.#bucket.set(named('key', key), bytesOf(value), ttlMs)); }

    delete(key) { ask(() => this.#bucket.delete(named('key', key))); }

    swap(key, expected, value) {
        return Number(ask(() => this.#bucket.swap(named('key', key), expected?.version, bytesOf(value))));
    }

    increment(key, delta = 1) { return Number(ask(() => this.#bucket.increment(named('key', key), delta))); }

    keys(prefix = '', cursor = undefined, limit = 1000) {
        const page = ask(() => this.#bucket.keys(named('prefix', prefix), named('cursor', cursor), limit));
        return { keys: page.keys, next: page.next ?? undefined };
    }
}

export function openBucket(name) {
    return new Bucket(ask(() => contract.open(named('bucket', name))));
}
