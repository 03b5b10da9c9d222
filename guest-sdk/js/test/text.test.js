import assert from 'node:assert/strict';
import test from 'node:test';
import { decode, encode } from '../text.js';

test('text is UTF-8 and back', () => {
    for (const text of ['', 'plain', 'grün 30 °C', '漢字', '😀', 'x'.repeat(20_000) + 'ü']) {
        assert.deepEqual(encode(text), new TextEncoder().encode(text));
        assert.equal(decode(encode(text)), text);
    }
});

test('what is no UTF-8 is an error', () => {
    for (const bytes of [[0xff], [0xc3], [0xe2, 0x82], [0xed, 0xa0, 0x80]]) {
        assert.throws(() => decode(new Uint8Array(bytes)), URIError);
    }
});

test('half a pair becomes the replacement character', () => {
    assert.equal(decode(encode('a\ud800')), 'a\ufffd');
});
