// Random numbers that differ in each instance. By itself QuickJS draws the same in all of them: its memory was taken while
// the component was made. The builder puts this in front of a plugin for QuickJS that uses `Math.random` or `crypto`.

import { getRandomBytes } from 'wasi:random/random@0.2.12';
import { isBeingMade, refuseWhileMade } from './making.js';

/** What one call of getRandomValues may ask for, as everywhere. */
const BYTES_MAX = 65536;

/** Arrays of integers, which is what random bits can fill. */
const INTEGERS = [Int8Array, Uint8Array, Uint8ClampedArray, Int16Array, Uint16Array, Int32Array, Uint32Array, BigInt64Array, BigUint64Array];

const engineRandom = Math.random;

/** The state of xoshiro128** (Blackman and Vigna, 2018), once a handler has asked for a number. */
let state;

function next() {
    const product = Math.imul(state[1], 5);
    const result = Math.imul((product << 7) | (product >>> 25), 9) >>> 0;
    const shifted = state[1] << 9;
    state[2] ^= state[0];
    state[3] ^= state[1];
    state[1] ^= state[2];
    state[0] ^= state[3];
    state[2] ^= shifted;
    state[3] = (state[3] << 11) | (state[3] >>> 21);
    return result;
}

function seed() {
    const bytes = Uint8Array.from(getRandomBytes(16));
    // All zeros would stay zeros.
    bytes[0] |= 1;
    return new Int32Array(bytes.buffer);
}

Math.random = function random() {
    if (state === undefined) {
        // What is drawn here is part of the component, and the same wherever it is made.
        if (isBeingMade()) return engineRandom();
        state = seed();
    }
    // 53 bits, all that a number in [0, 1) has.
    return ((next() >>> 6) * 0x8000000 + (next() >>> 5)) / 0x20000000000000;
};

/** Numbers for secrets, straight from the host. */
function randomBytes(length) {
    refuseWhileMade();
    return Uint8Array.from(getRandomBytes(length));
}

function getRandomValues(array) {
    if (!INTEGERS.some((Integers) => array instanceof Integers)) {
        throw new TypeError('getRandomValues wants an array of integers');
    }
    if (array.byteLength > BYTES_MAX) {
        const error = new Error(`getRandomValues gives at most ${BYTES_MAX} bytes at a time, not ${array.byteLength}`);
        error.name = 'QuotaExceededError';
        throw error;
    }
    new Uint8Array(array.buffer, array.byteOffset, array.byteLength).set(randomBytes(array.byteLength));
    return array;
}

/** RFC 9562, version 4. */
function randomUUID() {
    const bytes = randomBytes(16);
    bytes[6] = (bytes[6] & 0x0f) | 0x40;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
    return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join('-');
}

globalThis.crypto = { ...globalThis.crypto, getRandomValues, randomUUID };
