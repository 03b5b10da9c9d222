// The plugin against a host in the same process; the test is the tax plugin.

import assert from 'node:assert/strict';
import test from 'node:test';
import { CallError, FakeHost, HandlerError, MaculaError } from '../../../guest-sdk/js/testing.js';

const folder = new URL('..', import.meta.url);
const invoice = (country = 'DE', price = 19.9) => ({ country, lines: [{ price, quantity: 3 }, { price: 50, quantity: 1 }] });
const taxes = { rate: 0.19, tax: 20.84, gross: 130.54 };

test('lines are added up, and the tax is asked for', async () => {
    const host = await FakeHost.start({ folder, answers: { 'tax.of': taxes } });
    assert.deepEqual(host.callJSON('invoice.total', invoice()), { country: 'DE', net: 109.7, ...taxes });
    assert.deepEqual(host.called.map((call) => call.json()), [{ country: 'DE', net: 109.7 }]);
});

test('codes of the tax plugin reach our caller', async () => {
    const host = await FakeHost.start({ folder });
    host.answer('tax.of', new HandlerError('unknown-country', 'there is no tax rate for "XX"'));
    assert.throws(() => host.call('invoice.total', invoice('XX')), {
        name: 'HandlerError', code: 'unknown-country', message: 'an invoice to XX cannot be added up: there is no tax rate for "XX"',
    });
    host.answer('tax.of', new HandlerError('overflow', 'too much'));
    assert.throws(() => host.call('invoice.total', invoice()), { code: 'overflow', message: 'too much' });
});

test('that nobody knows taxes is told from that somebody may have begun', async () => {
    const host = await FakeHost.start({ folder });
    assert.throws(() => host.call('invoice.total', invoice()), { code: 'no-tax' });
    host.answer('tax.of', new CallError('maybe-run', new MaculaError('timeout')));
    assert.throws(() => host.call('invoice.total', invoice()), { code: 'timeout' });
    host.deny('/mesh/call', 'tax.of');
    assert.throws(() => host.call('invoice.total', invoice()), { code: 'denied' });
    assert.deepEqual(host.denied, ['/mesh/call tax.of']);
});

test('the tax plugin gets the time that our caller has left', async () => {
    const host = await FakeHost.start({ folder, answers: { 'tax.of': taxes } });
    for (const timeLeftMs of [300, 60_000]) host.call('invoice.total', invoice(), { timeLeftMs });
    assert.deepEqual(host.called.map((call) => call.timeLeftMs), [300, 60_000]);
});

test('what is no invoice is refused, and nobody is asked', async () => {
    const host = await FakeHost.start({ folder, answers: { 'tax.of': taxes } });
    for (const malformed of [null, 7, 'chairs', {}, { country: 'DE' }, { country: 'DE', lines: [] }, invoice(5), invoice('DE', '9'), invoice('DE', 1e300)]) {
        assert.throws(() => host.call('invoice.total', malformed), { code: 'bad-arguments' }, JSON.stringify(malformed));
    }
    assert.deepEqual(host.called, []);
});
