// Content in memory.

import { createHash } from 'node:crypto';
import { PAYLOAD_BYTES_MAX, checkPayload, fault, invalid } from './faults.js';
import { isContentId } from './names.js';

/** What an instance may have open at a time. */
const BLOBS_MAX = 64;
const WRITERS_MAX = 16;

const BASE32 = 'abcdefghijklmnopqrstuvwxyz234567';

/** The id of bytes: by SHA-256, which the contract knows beside BLAKE3 and Node has. */
export function contentId(bytes) {
    // Version 1; raw bytes; SHA-256, of 32 bytes.
    const cid = Buffer.concat([Buffer.from([0x01, 0x55, 0x12, 0x20]), createHash('sha256').update(bytes).digest()]);
    const bits = [...cid].map((byte) => byte.toString(2).padStart(8, '0')).join('');
    return `b${bits.match(/.{1,5}/g).map((five) => BASE32[Number.parseInt(five.padEnd(5, '0'), 2)]).join('')}`;
}

/** What is stored here, and what of it the plugin may have: its own, and everything else by right. */
export class ContentStore {
    #items = new Map();
    #own = new Set();
    #rights;
    pinned = new Set();

    constructor(rights) { this.#rights = rights; }

    put(bytes) {
        const id = contentId(bytes);
        this.#items.set(id, bytes.slice());
        return id;
    }

    putOwn(bytes) {
        const id = this.put(bytes);
        this.#own.add(id);
        return id;
    }

    fetch(id) {
        checkId(id);
        if (!this.#own.has(id) && !this.#rights.covers('/mesh/fetch', id)) throw fault('denied', `/mesh/fetch ${id}`);
        if (!this.#items.has(id)) throw fault('not-found', id);
        this.#own.add(id);
        return this.#items.get(id);
    }

    has(id) {
        checkId(id);
        return this.#items.has(id) && (this.#own.has(id) || this.#rights.covers('/mesh/fetch', id));
    }

    pin(id) {
        checkId(id);
        if (!this.#items.has(id)) throw fault('not-found', id);
        this.pinned.add(id);
    }

    unpin(id) {
        checkId(id);
        this.pinned.delete(id);
    }
}

function checkId(id) {
    if (!isContentId(id)) throw invalid(`${JSON.stringify(id)} is not a content id`);
}

/** The contract's interface `content`, for one instance. */
export function contentInterface(store) {
    let blobs = 0;
    let writers = 0;
    class Writer {
        pieces = [];
        [Symbol.dispose]() { writers -= 1; }
        write(piece) {
            checkPayload(piece);
            this.pieces.push(piece.slice());
        }
        static finish(writer) {
            writers -= 1;
            return store.putOwn(new Uint8Array(Buffer.concat(writer.pieces)));
        }
    }
    return {
        Writer,
        put(bytes) {
            checkPayload(bytes);
            return store.putOwn(bytes);
        },
        create() {
            if (writers === WRITERS_MAX) throw fault('quota-exceeded', `writers: ${WRITERS_MAX} are open; finish or drop some`);
            writers += 1;
            return new Writer();
        },
        open(id) {
            if (blobs === BLOBS_MAX) throw fault('quota-exceeded', `content: ${BLOBS_MAX} are open; drop some`);
            const bytes = store.fetch(id);
            blobs += 1;
            return {
                size: () => bytes.length,
                read(offset, length) {
                    if (length > PAYLOAD_BYTES_MAX) throw fault('too-large', PAYLOAD_BYTES_MAX);
                    return bytes.slice(offset, offset + length);
                },
                [Symbol.dispose]() { blobs -= 1; },
            };
        },
        /** Here it is over at once. */
        fetchAll(id) {
            let state = { tag: 'done' };
            try {
                store.fetch(id);
            } catch (thrown) {
                if (thrown.tag !== 'not-found') throw thrown;
                state = { tag: 'failed', val: thrown };
            }
            return { state: () => state, cancel() {} };
        },
        has: (id) => store.has(id),
        pin: (id) => store.pin(id),
        unpin: (id) => store.unpin(id),
    };
}
