import * as contract from 'macula:plugin/content@0.1.0';
import { MaculaError, lift } from './errors.js';
import { asBytes } from './lifted.js';
import { named } from './names.js';
import { bytesOf } from './payload.js';
import { drop } from './resource.js';

/** What one read, one write and one put may hold. */
const PIECE_BYTES_MAX = 1 << 20;

function ask(what) {
    try {
        return what();
    } catch (thrown) {
        throw lift(thrown);
    }
}

export function put(value) {
    return ask(() => contract.put(bytesOf(value)));
}

class ContentWriter {
    #writer;
    constructor(writer) { this.#writer = writer; }

    write(value) {
        const bytes = bytesOf(value);
        for (let at = 0; at < bytes.length; at += PIECE_BYTES_MAX) {
            ask(() => this.#open().write(bytes.subarray(at, at + PIECE_BYTES_MAX)));
        }
    }

    finish() {
        const writer = this.#open();
        this.#writer = undefined;
        return ask(() => contract.Writer.finish(writer));
    }

    close() {
        drop(this.#writer);
        this.#writer = undefined;
    }

    #open() {
        if (this.#writer === undefined) throw new MaculaError('invalid', 'this content is already finished or closed');
        return this.#writer;
    }
}

class Content {
    #blob;
    constructor(blob) {
        this.#blob = blob;
        this.size = Number(blob.size());
    }

    read(offset = 0, length = this.size - offset) {
        if (this.#blob === undefined) throw new MaculaError('invalid', 'this content is closed');
        const end = Math.min(offset + length, this.size);
        const bytes = new Uint8Array(Math.max(0, end - offset));
        for (let at = offset; at < end;) {
            const piece = asBytes(ask(() => this.#blob.read(at, Math.min(PIECE_BYTES_MAX, end - at))));
            bytes.set(piece, at - offset);
            at += piece.length;
        }
        return bytes;
    }

    close() {
        drop(this.#blob);
        this.#blob = undefined;
    }
}

export function createContent() {
    return new ContentWriter(ask(() => contract.create()));
}

export function openContent(mcid) {
    return new Content(ask(() => contract.open(named('content id', mcid))));
}

class Fetch {
    #fetch;
    constructor(fetch) { this.#fetch = fetch; }

    state() {
        const state = this.#fetch.state();
        switch (state.tag) {
            case 'done': return { done: true };
            case 'failed': return { done: false, error: lift(state.val) };
            default: return {
                done: false,
                storedBytes: Number(state.val.storedBytes),
                totalBytes: state.val.totalBytes === undefined || state.val.totalBytes === null ? undefined : Number(state.val.totalBytes),
                providers: state.val.providers,
            };
        }
    }

    cancel() { this.#fetch.cancel(); }
}

export function fetchContent(mcid) {
    return new Fetch(ask(() => contract.fetchAll(named('content id', mcid))));
}

export function hasContent(mcid) {
    return ask(() => contract.has(named('content id', mcid)));
}

export function pin(mcid) {
    ask(() => contract.pin(named('content id', mcid)));
}

export function unpin(mcid) {
    ask(() => contract.unpin(named('content id', mcid)));
}
