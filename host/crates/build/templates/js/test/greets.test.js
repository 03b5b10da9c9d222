import assert from 'node:assert/strict';
import test from 'node:test';
import { FakeHost } from '../macula/testing.js';

const folder = new URL('..', import.meta.url);

test('greets by name', async () => {
    const host = await FakeHost.start({ folder });
    host.deliver('hello.ada');
    assert.deepEqual(host.takePublished().map((each) => each.json()), [{ text: 'Hello, ada!' }]);
    assert.equal(host.callJSON('{{name}}.count'), 1);
});
