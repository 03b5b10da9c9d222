// The fake host: each test writes a plugin, and looks at what it can do.

import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test, { after } from 'node:test';
import { CallError, FakeHost, HandlerError, MaculaError } from '../testing.js';

const root = mkdtempSync(join(tmpdir(), 'macula-testing-'));
after(() => rmSync(root, { recursive: true }));
let plugins = 0;

const MANIFEST = `
name = "tested"
version = "1.2.3"
subscribe = ["in.*", "more.**"]
publish = ["out.**"]
advertise = ["own.*"]
call = ["other.*"]
[config]
threshold = 30.0
alert.level = 3
list = [1, "two"]
[limits]
timers = 2
subscriptions = 3
[[subscriptions]]
pattern = "in.*"
[[procedures]]
procedure = "own.ask"
`;

const BOTH = `onMessage() {}, onCall() {}`;

/** Writes a plugin, and starts it. */
async function start(source, options = {}, files = {}) {
    plugins += 1;
    const folder = join(root, String(plugins));
    mkdirSync(join(folder, 'src'), { recursive: true });
    const all = { 'package.json': '{ "type": "module" }', 'macula.toml': MANIFEST, 'src/index.js': source, ...files };
    for (const [name, text] of Object.entries(all)) writeFileSync(join(folder, name), text);
    return FakeHost.start({ folder, ...options });
}

test('messages are handled, and what is published is seen', async () => {
    const host = await start(`
        import { publish, publishAcked, retry, retryAfter, reject } from 'macula';
        export default {
            onMessage(message) {
                switch (message.segment(1)) {
                    case 'double': return publish('out.doubled', { number: message.json() * 2 }, { metadata: { from: message.meta('from') } });
                    case 'late': throw retryAfter(700, 'later');
                    case 'again': throw retry('again');
                    case 'odd': throw new Error('odd');
                    case 'mine': throw reject('not mine');
                    case 'safe': return publish('out.safe', publishAcked('out.raw', message.payload, { retain: true }).level);
                }
            },
            onCall() {},
        };`);
    assert.deepEqual(host.deliver('in.double', 21, { metadata: { from: 'test' } }), { outcome: 'ack' });
    const [published] = host.takePublished();
    assert.deepEqual(
        { ...published, payload: published.json() },
        { topic: 'out.doubled', payload: { number: 42 }, contentType: 'application/json', delivery: 'ordered', retain: false, metadata: { from: 'test' } },
    );
    assert.deepEqual(host.published, []);
    assert.deepEqual(host.deliver('in.late'), { outcome: 'retry', delayMs: 700 });
    assert.deepEqual(host.deliver('in.again'), { outcome: 'retry' });
    assert.deepEqual(host.deliver('in.mine'), { outcome: 'reject', reason: 'not mine' });
    assert.equal(host.deliver('in.double', '{').outcome, 'reject');
    assert.match(host.deliver('in.odd').reason, /^odd \(/);
    host.deliver('in.safe', new Uint8Array([1]));
    assert.deepEqual(host.takePublished().map((each) => [each.topic, each.retain, each.text()]), [['out.raw', true, '\x01'], ['out.safe', false, 'relay-memory']]);
    assert.throws(() => host.deliver('elsewhere'), /not subscribed to elsewhere, only to in\.\*/);
    assert.throws(() => host.deliver('in..x'), /is not a topic/);
});

test('what the manifest does not ask for is denied', async () => {
    const host = await start(`
        import { advertise, call, can, fetchContent, publish, retained, subscribe } from 'macula';
        const asks = {
            publish: () => publish('secret', 1), reserved: () => publish('_mesh.x', 1), subscribe: () => subscribe('in.**'), retained: () => retained('secret'),
            call: () => call('third.x'), advertise: () => advertise('foreign.x'), fetch: () => fetchContent('bafkrei${'a'.repeat(52)}'),
        };
        let told = 0;
        export default {
            onMessage(message) { asks[message.text()](); },
            onCall() { return { told, out: can('/mesh/publish', 'out.x'), secret: can('/mesh/publish', 'secret') }; },
            onRightsChange() { told += 1; },
        };`);
    for (const what of ['publish', 'reserved', 'subscribe', 'retained', 'call', 'advertise', 'fetch']) {
        const { outcome, reason } = host.deliver('in.x', what);
        assert.equal(outcome, 'dead-letter', what);
        assert.match(reason, /denied: \/mesh\//, what);
    }
    assert.deepEqual(host.takeDenied().slice(0, 3), ['/mesh/publish secret', '/mesh/publish _mesh.x', '/mesh/subscribe in.**']);
    assert.deepEqual([host.published, host.called], [[], []]);
    assert.deepEqual(host.callJSON('own.ask'), { told: 0, out: true, secret: false });
    host.allow('/mesh/publish', 'secret');
    assert.equal(host.deliver('in.x', 'publish').outcome, 'ack');
    host.deny('/mesh/publish', 'out.**');
    assert.deepEqual(host.callJSON('own.ask'), { told: 2, out: false, secret: true });
    // What is no longer allowed ends.
    host.deny('/mesh/subscribe', '**');
    assert.deepEqual([host.subscriptions, host.offers], [[], ['own.ask']]);
    assert.throws(() => host.allow('publish', 'x'), /is not a command/);
});

test('time passes only when the test says', async () => {
    const host = await start(`
        import { after, cancelTimer, every, publish } from 'macula';
        export default {
            timers: { beat: { everyMs: 1000, handler: (tick) => publish('out.beat', tick.dueMs) } },
            onMessage(message) {
                if (message.text() === 'cancel') return publish('out.cancelled', cancelTimer('once'));
                if (message.text() === 'often') return every('often', 5);
                if (message.text() === 'loop') return after('loop', 0);
                after('once', 1500);
            },
            onTimer(tick) {
                publish('out.' + tick.name, tick.dueMs);
                if (tick.name === 'loop') return after('loop', 0);
                throw new Error('once is enough');
            },
            onCall() {},
        };`);
    const begin = Date.UTC(2026, 0, 1);
    const ticks = () => host.takePublished().map((each) => [each.topic, each.json() - begin]);
    assert.equal(host.nowMs, begin);
    assert.equal(host.deliver('in.x', 'often').reason, 'invalid: period of 5 ms: at least 10 ms');
    host.deliver('in.x');
    assert.equal(host.advance(1400), 1);
    assert.deepEqual(ticks(), [['out.beat', 1000]]);
    assert.throws(() => host.advance(600), /once is enough/);
    assert.deepEqual(ticks(), [['out.once', 1500], ['out.beat', 2000]]);
    assert.equal(host.nowMs, begin + 2000);
    assert.deepEqual(host.timers, ['beat']);
    host.deliver('in.x');
    host.deliver('in.x', 'cancel');
    host.deliver('in.x', 'cancel');
    assert.deepEqual(host.takePublished().map((each) => each.json()), [true, false]);
    assert.equal(host.advance(0), 0);
    host.deliver('in.x', 'loop');
    assert.throws(() => host.advance(1), /again and again/);
});

test('Date goes with virtual time, in handlers alone', async () => {
    const host = await start(`
        export default { onMessage() {}, onCall() { const date = new Date(); return [Date.now(), date.getTime(), date instanceof Date, new Date(7).getTime()]; } };`);
    host.advance(3_600_000);
    assert.deepEqual(host.callJSON('own.ask'), [host.nowMs, host.nowMs, true, 7]);
    assert.ok(Date.now() !== host.nowMs && new Date() instanceof Date);
});

test('the number of timers is bounded, and a timer needs a handler', async () => {
    const source = (handler) => `
        import { after } from 'macula';
        export default { onMessage(message) { after(message.text(), 1); }, onCall() {}, ${handler} };`;
    const host = await start(source('onTimer() {}'));
    for (const name of ['a', 'b', 'a']) assert.equal(host.deliver('in.x', name).outcome, 'ack');
    // It is retried: quotas recover.
    assert.equal(host.deliver('in.x', 'c').outcome, 'retry');
    assert.equal(host.deliver('in.x', '').reason, 'invalid: timer name "": 1 to 64 bytes');
    const without = await start(source(''));
    assert.equal(without.deliver('in.x', 'a').reason, 'invalid: a timer needs a timer handler');
});

test('the test answers what the plugin calls', async () => {
    const host = await start(`
        import { call, callJSON } from 'macula';
        export default {
            onMessage(message) { call(message.text()); },
            onCall(request) {
                const { procedure, options } = request.json();
                return callJSON(procedure, { a: 1 }, options);
            },
        };`, { answers: { 'other.fixed': { answer: 42 } } });
    const ask = (procedure, options, more) => host.callJSON('own.ask', { procedure, options }, more);
    assert.deepEqual(ask('other.fixed'), { answer: 42 });
    assert.deepEqual(host.takeCalled().map((call) => [call.procedure, call.json(), call.timeLeftMs]), [['other.fixed', { a: 1 }, 5000]]);
    host.answer('other.sum', (request) => request.json().a + 1);
    assert.equal(ask('other.sum', { idempotencyKey: 'k', metadata: { m: 'v' }, timeoutMs: 60_000 }, { timeLeftMs: 700 }), 2);
    const [made] = host.takeCalled();
    assert.deepEqual([made.idempotencyKey, made.metadata, made.timeLeftMs], ['k', { m: 'v' }, 700]);
    host.answer('other.no', () => { throw new HandlerError('own-code', 'no', new Uint8Array([7])); });
    assert.throws(() => ask('other.no'), { name: 'HandlerError', code: 'own-code', message: 'no', data: new Uint8Array([7]) });
    assert.equal(host.deliver('in.x', 'other.no').outcome, 'reject');
    host.answer('other.late', new CallError('maybe-run', new MaculaError('timeout')));
    assert.throws(() => ask('other.late'), { code: 'timeout', message: 'the call may have run: timeout' });
    assert.equal(host.deliver('in.x', 'other.late').outcome, 'dead-letter');
    assert.throws(() => ask('other.none'), { code: 'not-found', message: 'the call did not run: not found: nobody offers other.none' });
    assert.equal(host.deliver('in.x', 'other.none').outcome, 'retry');
    for (const options of [{ timeoutMs: 0 }, { idempotencyKey: 'x'.repeat(65) }, { metadata: { 'macula-x': '' } }, { contentType: 'x'.repeat(128) }]) {
        assert.throws(() => ask('other.sum', options), { code: 'invalid' }, JSON.stringify(options));
    }
    assert.throws(() => host.call('own.other'), /does not offer own\.other, only own\.ask/);
    // An answer may look at the host, but asks nothing of the plugin, which waits.
    host.answer('other.back', () => host.call('own.ask', {}));
    assert.throws(() => ask('other.back'), /an instance does one thing at a time/);
});

test('settings are text, as of the manifest and of the test', async () => {
    const source = `
        import { setting, settingJSON, settingOr, settings } from 'macula';
        let threshold;
        export default {
            onStart() { threshold = settingOr('threshold', 1); },
            onMessage() {},
            onCall() { return { threshold, text: setting('threshold'), list: settingJSON('list'), level: settingOr('alert.level', 0), keys: Object.keys(settings()) }; },
            CHANGE
        };`;
    const plain = source.replace('CHANGE', '');
    const host = await start(plain);
    assert.deepEqual(host.callJSON('own.ask'), { threshold: 30, text: '30.0', list: [1, 'two'], level: 3, keys: ['alert.level', 'list', 'threshold'] });
    assert.equal((await start(plain, { config: { threshold: 7 } })).callJSON('own.ask').threshold, 7);
    await assert.rejects(start(plain, { config: { threshold: 'hot' } }), { name: 'MaculaError', code: 'invalid', text: 'setting threshold = "hot": not a number' });
    // Without a handler of changes the next instance begins with them.
    await host.setConfig('threshold', 8);
    assert.equal(host.callJSON('own.ask').threshold, 8);
    await assert.rejects(host.setConfig('threshold', 'hot'), { code: 'invalid' });
    assert.equal(host.callJSON('own.ask').text, '8');
    const following = await start(source.replace('CHANGE', `onConfigChange(keys) { if (settingOr('threshold', 1) > 50) throw new Error('too hot: ' + keys); }`));
    await following.setConfig('threshold', 40);
    await assert.rejects(following.setConfig('threshold', 60), /other: too hot: threshold/);
    assert.deepEqual([following.callJSON('own.ask').text, following.callJSON('own.ask').threshold], ['40', 30]);
});

test('who follows rights alone does not take settings silently', async () => {
    const host = await start(`export default { ${BOTH}, onRightsChange() {} };`);
    await assert.rejects(host.setConfig('threshold', 1), { code: 'invalid', text: /it has no onConfigChange/ });
});

test('a new version takes over what it asks for again', async () => {
    const host = await start(`
        import { subscribe, publish, setting } from 'macula';
        let count = 0;
        let reason;
        export default {
            onStart(why) {
                reason = why;
                if (setting('unhealthy')) return;
                subscribe('more.' + (setting('topic') ?? 'a'));
            },
            onHealth() { return setting('unhealthy') ? 'ill' : undefined; },
            onMessage() { count += 1; },
            onCall() { return { count, reason }; },
            onStop(why) { publish('out.stopped', why); },
            snapshot() { return { count }; },
            restore(state) { count = state.count; },
        };`);
    host.deliver('in.a');
    host.deliver('more.a');
    await host.replace();
    assert.deepEqual(host.callJSON('own.ask'), { count: 2, reason: 'replacing' });
    assert.deepEqual(host.subscriptions, ['in.*', 'more.a']);
    assert.deepEqual(host.takePublished().map((each) => each.text()), ['replaced']);
    await host.setConfig('topic', 'b');
    assert.deepEqual(host.subscriptions, ['in.*', 'more.b']);
    await assert.rejects(host.setConfig('unhealthy', 'yes'), /unhealthy: ill/);
    assert.deepEqual([host.subscriptions, host.callJSON('own.ask').count], [['in.*', 'more.b'], 2]);
    await host.crash();
    assert.deepEqual(host.callJSON('own.ask'), { count: 0, reason: 'restarted' });
    host.takePublished();
    host.stop();
    assert.deepEqual(host.takePublished().map((each) => each.text()), ['stopped']);
    assert.throws(() => host.deliver('in.a'), /was stopped/);
});

test('each host has a plugin of its own', async () => {
    const source = `
        import { next } from './count.js';
        export default { subscriptions: { 'more.x': () => next() }, onMessage() {}, onCall() { return next(); } };`;
    const files = { 'src/count.js': `let count = 0; export const next = () => (count += 1);` };
    const first = await start(source, {}, files);
    const folder = join(root, String(plugins));
    const [second, third] = await Promise.all([FakeHost.start({ folder }), FakeHost.start({ folder })]);
    first.call('own.ask');
    first.deliver('more.x');
    assert.deepEqual([first.callJSON('own.ask'), second.callJSON('own.ask'), third.callJSON('own.ask')], [3, 1, 1]);
});

test('buckets, content and last values are in memory', async () => {
    const host = await start(`
        import { createContent, hasContent, openBucket, openContent, pin, put, publish, retained } from 'macula';
        export default {
            onMessage() {},
            onCall(request) {
                const bucket = openBucket('state');
                switch (request.text()) {
                    case 'kv': {
                        bucket.set('a', 'first');
                        bucket.set('b', 'short', 1000);
                        const version = bucket.swap('a', bucket.get('a'), 'second');
                        let conflict;
                        try { bucket.swap('a', undefined, 'third'); } catch (error) { conflict = error.code; }
                        return { version, conflict, sum: bucket.increment('n', 2) + bucket.increment('n', -1), keys: bucket.keys('', undefined, 2) };
                    }
                    case 'expired': return { b: bucket.get('b') === undefined, keys: bucket.keys().keys };
                    case 'content': {
                        const writer = createContent();
                        writer.write('long ');
                        writer.write('text');
                        const id = writer.finish();
                        pin(id);
                        return { id, same: put('long text') === id, has: hasContent(id), size: openContent(id).size, part: String.fromCharCode(...openContent(id).read(5, 2)) };
                    }
                    case 'retained': return retained('in.kept')?.json() ?? null;
                }
                return openContent(request.text()).read();
            },
        };`, { manifest: MANIFEST.replace('call =', 'fetch = ["**"]\ncall =') });
    assert.deepEqual(host.callJSON('own.ask', 'kv'), { version: 3, conflict: 'conflict', sum: 3, keys: { keys: ['a', 'b'], next: 'n' } });
    assert.equal(new TextDecoder().decode(host.stored('state', 'a')), 'second');
    host.advance(1000);
    assert.deepEqual(host.callJSON('own.ask', 'expired'), { b: true, keys: ['a', 'n'] });
    const { id, ...rest } = host.callJSON('own.ask', 'content');
    assert.deepEqual(rest, { same: true, has: true, size: 9, part: 'te' });
    assert.ok(host.isPinned(id));
    const given = host.content('from elsewhere');
    assert.equal(new TextDecoder().decode(host.call('own.ask', given)), 'from elsewhere');
    // As another implementation names the same bytes: CIDv1, raw, SHA-256.
    assert.equal(host.content(''), 'bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku');
    assert.equal(host.callJSON('own.ask', 'retained'), null);
    host.retain('in.kept', { warm: true });
    assert.deepEqual(host.callJSON('own.ask', 'retained'), { warm: true });
});

test('the log is seen, from a level on', async () => {
    const source = `
        import { log, logEnabled } from 'macula';
        export default { onMessage() { log.debug('hidden'); log.warn('seen', { room: 7 }); }, onCall() { return logEnabled('debug'); } };`;
    const host = await start(source, { logLevel: 'info' });
    host.deliver('in.a');
    assert.deepEqual(host.takeLogged(), [{ level: 'warn', target: '', message: 'seen', fields: { room: '7' } }]);
    assert.equal(host.callJSON('own.ask'), false);
});

test('what cannot be built cannot be tested either', async () => {
    for (const [source, expected] of [
        [`export default { ${BOTH}, onMessages() {} };`, /a plugin has no `onMessages`; it may have/],
        [`export default {};`, /handles nothing/],
        [`export const x = 1;`, /a plugin is an object/],
        [`import fs from 'node:fs'; export default { ${BOTH} };`, /plugins run without Node/],
        [`import fs from 'fs'; export default { ${BOTH} };`, /plugins run without Node/],
        [`import { fly } from 'macula'; export default { ${BOTH} };`, /fly/],
        [`import { publish } from 'macula'; publish('out.x'); export default { ${BOTH} };`, /top-level code runs when a plugin is built/],
        [`export default { onCall() {} };`, /\[\[subscriptions\]\], but the plugin has neither onMessage/],
        [`export default { onMessage() {} };`, /\[\[procedures\]\], but the plugin has neither onCall/],
    ]) {
        await assert.rejects(start(source), expected, source);
    }
    const host = await start(`export default { onMessage: async () => {}, onCall() {} };`);
    assert.match(host.deliver('in.x').reason, /without async and await/);
});

test('a manifest is refused as hosts refuse it', async () => {
    for (const [text, expected] of [
        ['nam = "x"', /macula\.toml: unknown field `nam`, expected one of `name`/],
        ['name = "Up"', /is no name of a plugin/],
        ['publish = ["a..b"]', /"a\.\.b" is not a pattern/],
        ['publish = ["_mesh.x"]', /begins with '_'/],
        ['fetch = ["abc"]', /is no content id/],
        ['[[subscriptions]]\npattern = "a"', /for which `subscribe` does not ask/],
        ['[[procedures]]\nprocedure = "a"', /for which `advertise` does not ask/],
        ['subscribe = ["a"]\n[[subscriptions]]\npattern = "a"\nwhen-full = "wait"', /unknown variant `wait`/],
        ['subscribe = ["a"]\n[[subscriptions]]\npattern = "a"\n[[subscriptions]]\npattern = "a"', /is there twice/],
        ['[limits]\ntimers = 1.5', /limits\.timers: expected an integer/],
        ['name = "x"\nname = "y"', /line 2: name is there twice/],
        ['name = ', /line 1: expected a value/],
    ]) {
        await assert.rejects(start(`export default { ${BOTH} };`, { manifest: text }), expected, text);
    }
    await assert.rejects(FakeHost.start({ folder: join(root, 'nowhere') }), /there is no .*macula\.toml/);
});

// A component that hands over half a pair of surrogates ends: what names something is an error, the rest is replaced.
test('what is no UTF-8 does not reach the host', async () => {
    const host = await start(`
        import * as macula from 'macula';
        const bad = 'x\\ud800';
        const asks = {
            topic: () => macula.publish(bad, 1), 'content type': () => macula.publish('out.x', 1, { contentType: bad }),
            metadata: () => macula.publish('out.x', 1, { metadata: { [bad]: '' } }), 'metadata k': () => macula.publish('out.x', 1, { metadata: { k: bad } }),
            pattern: () => macula.subscribe(bad), procedure: () => macula.advertise(bad), timer: () => macula.after(bad, 1),
            bucket: () => macula.openBucket(bad), key: () => macula.openBucket('b').get(bad), 'content id': () => macula.hasContent(bad),
        };
        export default {
            timers: {},
            onTimer() {},
            onHealth() { return bad; },
            onMessage(message) {
                const what = message.text();
                if (what in asks) return asks[what]();
                macula.log.warn(bad, { [bad]: bad });
                if (what === 'call') return macula.call('other.x', 1, { idempotencyKey: bad });
                throw macula.deadLetter(bad);
            },
            onCall(request) {
                if (request.text() === 'long') throw new Error('x' + '😀'.repeat(300));
                return [macula.setting(bad) ?? null, macula.can('/mesh/publish', bad), macula.cancelTimer(bad)];
            },
        };`);
    for (const what of ['topic', 'content type', 'metadata', 'metadata k', 'pattern', 'procedure', 'timer', 'bucket', 'key', 'content id']) {
        assert.deepEqual(host.deliver('in.x', what), { outcome: 'reject', reason: `invalid: ${what} "x\\ud800": not UTF-8` });
    }
    assert.deepEqual([host.published, host.logged], [[], []]);
    assert.deepEqual(host.deliver('in.x', 'call'), { outcome: 'reject', reason: 'the call did not run: invalid: idempotency key "x\\ud800": not UTF-8' });
    assert.deepEqual(host.deliver('in.x', 'text'), { outcome: 'dead-letter', reason: 'x\ufffd' });
    assert.deepEqual(host.takeLogged().at(-1), { level: 'warn', target: '', message: 'x\ufffd', fields: { 'x\ufffd': 'x\ufffd' } });
    assert.deepEqual(host.callJSON('own.ask', ''), [null, false, false]);
    assert.deepEqual(host.health(), { tag: 'unhealthy', val: 'x\ufffd' });
    // 1,024 bytes, up to the end of a character.
    assert.throws(() => host.call('own.ask', 'long'), { message: 'x' + '😀'.repeat(255) });
});
