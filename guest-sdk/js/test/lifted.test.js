import assert from 'node:assert/strict';
import test from 'node:test';
import vm from 'node:vm';
import { asBytes, asNumbers } from '../lifted.js';
import { asMessage, bytesOf } from '../payload.js';

test('what engines give differently is given the same', () => {
    assert.deepEqual(asNumbers({ epoch: 7n, seq: 8, topic: 'a' }, 'epoch', 'seq'), { epoch: 7, seq: 8, topic: 'a' });
    const foreign = vm.runInNewContext('new Uint8Array([1, 2, 3, 4]).subarray(1, 3)');
    assert.ok(!(foreign instanceof Uint8Array));
    assert.deepEqual(asBytes(foreign), new Uint8Array([2, 3]));
    assert.equal(asBytes(foreign).buffer, foreign.buffer);
    const own = new Uint8Array([1]);
    assert.equal(asBytes(own), own);
    // An echo gives back bytes, not JSON of them.
    const message = asMessage({ payload: foreign, epoch: 1n, seq: 2n, timestampMs: 3n });
    assert.deepEqual(bytesOf(message.payload), new Uint8Array([2, 3]));
    assert.equal(message.timestampMs, 3);
});
