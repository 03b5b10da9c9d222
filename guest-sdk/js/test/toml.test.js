import assert from 'node:assert/strict';
import test from 'node:test';
import { covers, isPattern, isTopic } from '../testing/names.js';
import { Float, parse } from '../testing/toml.js';

const plain = (value) => {
    if (value instanceof Map) return Object.fromEntries([...value].map(([key, member]) => [key, plain(member)]));
    return Array.isArray(value) ? value.map(plain) : value instanceof Float ? { float: value.value } : value;
};
const read = (text) => plain(parse(text));

test('values of each type', () => {
    assert.deepEqual(read('a = 1_000\nb = 0x1F'), { a: 1000, b: 31 });
    assert.deepEqual(read('a = 1.5\nb = -2e3\nc = inf\nd = +5'), { a: { float: 1.5 }, b: { float: -2000 }, c: { float: Infinity }, d: 5 });
    assert.deepEqual(read('a = true # yes\nb = false'), { a: true, b: false });
    assert.deepEqual(read(String.raw`a = "x\t\"\u00e4\U0001F600"` + "\nb = 'x\\t#'"), { a: 'x\t"ä😀', b: 'x\\t#' });
    assert.deepEqual(read('a = """\none \\\n   two "quoted"\n"""\nb = \'\'\'\nraw\\n\'\'\''), { a: 'one two "quoted"\n', b: 'raw\\n' });
    assert.deepEqual(read('a = [1, [2, "x"], # two\n  { b = 3, c.d = 4 },\n]'), { a: [1, [2, 'x'], { b: 3, c: { d: 4 } }] });
});

test('tables, dotted keys and arrays of tables', () => {
    assert.deepEqual(read('a.b = 1\n"c d" = 2\r\n[t.u]\nv = 3\n[t]\nw = 4\n'), { a: { b: 1 }, 'c d': 2, t: { u: { v: 3 }, w: 4 } });
    assert.deepEqual(read('[[l]]\na = 1\n[l.m]\nb = 2\n[[l]]\na = 3'), { l: [{ a: 1, m: { b: 2 } }, { a: 3 }] });
});

test('what is no TOML is an error with its line', () => {
    for (const [text, expected] of [
        ['a', /line 1: expected =/], ['\na = 1 b = 2', /line 2: expected the end of the line/], ['a = "x', /expected a text/], ['a = 01', /01 is no value/],
        ['a = 1\na = 2', /line 2: a is there twice/], ['[a]\n[a]', /line 2: a is there twice/], ['a = 1\n[a.b]', /a is no table/], ['a = [1 2]', /expected , or \]/],
        ['a = 1\n[[a]]', /a is there twice/], [String.raw`a = "\q"`, /\\q is no escape/], ['a = 2026-01-01', /is no value/],
    ]) {
        assert.throws(() => parse(text), expected, text);
    }
});

test('patterns cover topics and patterns', () => {
    for (const [pattern, asked, expected] of [
        ['a.b', 'a.b', true], ['a.*', 'a.b', true], ['a.*', 'a.b.c', false], ['a.**', 'a.b.c', true], ['a.**', 'a', false], ['**', 'a', true],
        ['a.*', 'a.*', true], ['a.*', 'a.**', false], ['a.b', 'a.*', false], ['**', '_mesh.x', false], ['_mesh.**', '_mesh.x', true], ['*.x', '_a.x', false],
    ]) {
        assert.equal(covers(pattern, asked), expected, `${pattern} ${asked}`);
    }
    assert.deepEqual(['a.**', '**.a', '*', 'a..b', 'ä', ''].map(isPattern), [true, false, true, false, false, false]);
    assert.deepEqual(['a.b', 'a.*', Array(17).fill('a').join('.'), 'x'.repeat(64)].map(isTopic), [true, false, false, false]);
});
