// What handlers are given, and what they give.

import { DecodeError } from './errors.js';
import { asBytes, asNumbers } from './lifted.js';
import { named } from './names.js';
import { encode, decode } from './text.js';

const NOTHING = new Uint8Array(0);

/** Bytes as they are, text as UTF-8, nothing as no bytes, everything else as JSON. */
export function bytesOf(value) {
    if (value instanceof Uint8Array) return value;
    if (typeof value === 'string') return encode(value);
    return value === undefined ? NOTHING : encode(JSON.stringify(value));
}

/** The media type that goes with it when none is given. */
export function typeOf(value) {
    return value instanceof Uint8Array || typeof value === 'string' || value === undefined ? '' : 'application/json';
}

export function readText(what, bytes) {
    try {
        return decode(bytes);
    } catch {
        throw new DecodeError(what, new Error('not UTF-8'));
    }
}

export function readJSON(what, bytes) {
    const text = readText(what, bytes);
    try {
        return JSON.parse(text);
    } catch (error) {
        throw new DecodeError(what, error);
    }
}

export function pairsOf(metadata) {
    const pairs = metadata === undefined ? [] : Object.entries(metadata);
    for (const [name, value] of pairs) named(`metadata ${named('metadata', name)}`, value);
    return pairs;
}

const message = {
    json() { return readJSON('payload', this.payload); },
    text() { return readText('payload', this.payload); },
    segment(index) { return this.topic.split('.')[index] ?? ''; },
    meta(name) { return find(this.metadata, name); },
};

const request = {
    json() { return readJSON('argument', this.payload); },
    text() { return readText('argument', this.payload); },
    meta(name) { return find(this.metadata, name); },
};

/** Gives a record from the contract its methods. */
export function asMessage(record) {
    record.payload = asBytes(record.payload);
    return Object.setPrototypeOf(asNumbers(record, 'epoch', 'seq', 'timestampMs'), message);
}

export function asRequest(record) {
    record.payload = asBytes(record.payload);
    return Object.setPrototypeOf(record, request);
}

function find(metadata, name) {
    for (const [key, value] of metadata) if (key === name) return value;
    return undefined;
}
