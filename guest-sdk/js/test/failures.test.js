import assert from 'node:assert/strict';
import test from 'node:test';
import { CallError, DecodeError, HandlerError, MaculaError, lift } from '../errors.js';
import {
    deadLetter, dispositionOf, handlerErrorOf, hostErrorOf, reject, retry, retryAfter, unknownProcedure, withCode,
} from '../failures.js';
import { asMessage, asRequest, bytesOf, typeOf } from '../payload.js';
import { settled } from '../settled.js';
import { encode } from '../text.js';

test('each kind of error has its usual disposition', () => {
    const tag = (error) => dispositionOf(error).tag;
    for (const code of ['timeout', 'unavailable', 'quota-exceeded', 'not-found', 'conflict', 'cancelled', 'other']) {
        assert.equal(tag(new MaculaError(code, 'x')), 'retry', code);
    }
    for (const code of ['invalid', 'too-large']) assert.equal(tag(new MaculaError(code, 'x')), 'reject', code);
    assert.deepEqual(dispositionOf(new MaculaError('denied', 'right')), { tag: 'dead-letter', val: 'denied: right' });
    assert.equal(tag(new CallError('not-run', new MaculaError('timeout'))), 'retry');
    assert.equal(tag(new CallError('maybe-run', new MaculaError('timeout'))), 'dead-letter');
    assert.equal(tag(new HandlerError('own', 'no')), 'reject');
    assert.equal(tag(new DecodeError('payload', new Error('bad'))), 'reject');
    assert.equal(tag(new Error('odd')), 'dead-letter');
    assert.equal(tag('thrown text'), 'dead-letter');
});

// What callers and logs see is the same whatever language a plugin is written in: the Rust and Go SDKs have the same table.
test('each case has the same code and text in every language', () => {
    for (const [error, code, text] of [
        [new MaculaError('denied', 'why'), 'denied', 'denied: why'],
        [new MaculaError('invalid', 'why'), 'invalid', 'invalid: why'],
        [new MaculaError('not-found', 'why'), 'not-found', 'not found: why'],
        [new MaculaError('timeout'), 'timeout', 'timeout'],
        [new MaculaError('unavailable', 'why'), 'unavailable', 'unavailable: why'],
        [new MaculaError('too-large', '', 5), 'too-large', 'too large: at most 5 bytes'],
        [new MaculaError('quota-exceeded', 'why'), 'quota-exceeded', 'quota exceeded: why'],
        [new MaculaError('conflict', 'why'), 'conflict', 'conflict: why'],
        [new MaculaError('cancelled'), 'cancelled', 'cancelled'],
        [new MaculaError('other', 'why'), 'other', 'other: why'],
    ]) {
        assert.deepEqual([handlerErrorOf(error).code, error.message], [code, text]);
    }
});

test('a handler may say otherwise', () => {
    const denied = new MaculaError('denied', 'right');
    assert.deepEqual(dispositionOf(retry(denied)), { tag: 'retry', val: undefined });
    assert.deepEqual(dispositionOf(retryAfter(3000, denied)), { tag: 'retry', val: 3000 });
    assert.deepEqual(dispositionOf(reject(denied)), { tag: 'reject', val: 'denied: right' });
    assert.deepEqual(dispositionOf(reject('a text')), { tag: 'reject', val: 'a text' });
    assert.equal(dispositionOf(deadLetter(new MaculaError('timeout'))).tag, 'dead-letter');
});

test('mistakes in the program are told with their place', () => {
    const told = dispositionOf(new TypeError('x is not a function')).val;
    assert.match(told, /^TypeError: x is not a function \(.+\)$/);
});

test('callers get a code', () => {
    const code = (error) => handlerErrorOf(error).code;
    assert.equal(code(new DecodeError('argument', new Error('bad'))), 'bad-arguments');
    assert.equal(code(new MaculaError('not-found', 'x')), 'not-found');
    assert.equal(code(new Error('odd')), 'failed');
    assert.equal(code(withCode('slow', new MaculaError('timeout'))), 'slow');
    assert.equal(code(unknownProcedure('p.q')), 'unknown-procedure');
    const own = handlerErrorOf(new HandlerError('own', 'no', encode('details')));
    assert.deepEqual(own, { code: 'own', message: 'no', data: encode('details') });
});

test('the host gets the case that lets it try again', () => {
    assert.deepEqual(hostErrorOf(new MaculaError('timeout')), { tag: 'timeout' });
    assert.deepEqual(hostErrorOf(new MaculaError('too-large', '', 7)), { tag: 'too-large', val: 7 });
    assert.deepEqual(hostErrorOf(new MaculaError('unavailable', 'no link')), { tag: 'unavailable', val: 'no link' });
    assert.equal(hostErrorOf(new Error('odd')).tag, 'other');
});

test('what the engine throws is lifted', () => {
    assert.equal(lift({ tag: 'denied', val: 'right' }).message, 'denied: right');
    assert.equal(lift({ tag: 'too-large', val: 1024 }).message, 'too large: at most 1024 bytes');
    const other = new TypeError('x');
    assert.equal(lift(other), other);
});

test('payloads are bytes, text, or JSON', () => {
    assert.deepEqual(bytesOf(new Uint8Array([1])), new Uint8Array([1]));
    assert.deepEqual(bytesOf('x'), encode('x'));
    assert.deepEqual(bytesOf({ a: 1 }), encode('{"a":1}'));
    assert.deepEqual(bytesOf(undefined), new Uint8Array(0));
    assert.deepEqual([typeOf('x'), typeOf({}), typeOf(undefined)], ['', 'application/json', '']);
});

test('messages and requests read themselves', () => {
    const message = asMessage({ topic: 'a.b.c', payload: encode('{"x":1}'), metadata: [['k', 'v']] });
    assert.deepEqual([message.json(), message.segment(1), message.segment(9), message.meta('k')], [{ x: 1 }, 'b', '', 'v']);
    assert.throws(() => asRequest({ payload: encode('{') }).json(), DecodeError);
    assert.throws(() => asRequest({ payload: new Uint8Array([0xff]) }).text(), DecodeError);
});

test('a promise is refused, and forgotten', () => {
    assert.throws(() => settled('onMessage', Promise.reject(new Error('x'))), /without async/);
    assert.equal(settled('onMessage', 3), 3);
});
