import { hostErrorOf } from '../failures.js';
import { asBytes } from '../lifted.js';
import { bytesOf, readJSON } from '../payload.js';
import { settled } from '../settled.js';

/** The contract's state handler: the state is a value that JSON can hold, or bytes. */
export function state(plugin) {
    return {
        snapshot() {
            try {
                const value = settled('snapshot', plugin.snapshot?.());
                return value instanceof Uint8Array ? tagged(0, value) : tagged(1, bytesOf(JSON.stringify(value ?? null)));
            } catch (thrown) {
                throw hostErrorOf(thrown);
            }
        },
        restore(bytes, version) {
            try {
                const body = asBytes(bytes).subarray(1);
                settled('restore', plugin.restore?.(bytes[0] === 0 ? body : readJSON('state', body), version));
            } catch (thrown) {
                throw hostErrorOf(thrown);
            }
        },
    };
}

// The first byte says which of the two it is.
function tagged(tag, bytes) {
    const state = new Uint8Array(bytes.length + 1);
    state[0] = tag;
    state.set(bytes, 1);
    return state;
}
