// Reads TOML 1.0, as far as manifests use it: all but dates.

/** A number that is written as a float: hosts give `30.0` as that text. */
export class Float {
    constructor(value) { this.value = value; }
}

/** Tables are Maps, arrays arrays, integers numbers. Throws an Error that names the line. */
export function parse(text) {
    return new Reader(text).document();
}

class Reader {
    #text;
    #at = 0;
    /** Tables that are written out already, and take nothing more. */
    #closed = new WeakSet();
    /** Arrays that [[headers]] have made. */
    #arrays = new WeakSet();

    constructor(text) { this.#text = text.replaceAll('\r\n', '\n'); }

    document() {
        const root = new Map();
        let table = root;
        for (;;) {
            this.#blank();
            if (this.#at === this.#text.length) return root;
            if (this.#take('[[')) table = this.#arrayHeader(root);
            else if (this.#take('[')) table = this.#header(root);
            else this.#pair(table);
            this.#space();
            if (this.#at < this.#text.length && !this.#take('\n')) throw this.#error('expected the end of the line');
        }
    }

    #header(root) {
        const path = this.#key();
        if (!this.#take(']')) throw this.#error('expected ]');
        const table = this.#open(root, path);
        if (this.#closed.has(table)) throw this.#error(`${path.join('.')} is there twice`);
        this.#closed.add(table);
        return table;
    }

    #arrayHeader(root) {
        const path = this.#key();
        if (!this.#take(']]')) throw this.#error('expected ]]');
        const parent = this.#open(root, path.slice(0, -1));
        const name = path.at(-1);
        if (!parent.has(name)) {
            parent.set(name, []);
            this.#arrays.add(parent.get(name));
        }
        if (!this.#arrays.has(parent.get(name))) throw this.#error(`${path.join('.')} is there twice`);
        const table = new Map();
        parent.get(name).push(table);
        return table;
    }

    /** The table at a path; what is missing on the way is made. In an array of tables it is the last one. */
    #open(table, path) {
        for (const name of path) {
            if (!table.has(name)) table.set(name, new Map());
            let next = table.get(name);
            if (this.#arrays.has(next)) next = next.at(-1);
            if (!(next instanceof Map)) throw this.#error(`${name} is no table`);
            table = next;
        }
        return table;
    }

    #pair(table) {
        const path = this.#key();
        if (!this.#take('=')) throw this.#error('expected =');
        this.#space();
        const parent = this.#open(table, path.slice(0, -1));
        if (parent.has(path.at(-1))) throw this.#error(`${path.join('.')} is there twice`);
        parent.set(path.at(-1), this.#value());
    }

    /** A key with its dots; the spaces around it are skipped. */
    #key() {
        const path = [];
        do {
            this.#space();
            const quote = this.#text[this.#at];
            path.push(quote === '"' ? this.#basic() : quote === "'" ? this.#literal() : this.#match(/[A-Za-z0-9_-]+/y, 'a key'));
            this.#space();
        } while (this.#take('.'));
        return path;
    }

    #value() {
        const rest = this.#text.slice(this.#at, this.#at + 3);
        if (rest === '"""') return this.#multiline('"""');
        if (rest === "'''") return this.#multiline("'''");
        if (rest[0] === '"') return this.#basic();
        if (rest[0] === "'") return this.#literal();
        if (rest[0] === '[') return this.#array();
        if (rest[0] === '{') return this.#inline();
        return this.#plain(this.#match(/[A-Za-z0-9_+.:-]+/y, 'a value'));
    }

    #plain(word) {
        if (word === 'true' || word === 'false') return word === 'true';
        if (/^[+-]?(inf|nan)$/.test(word)) return new Float(Number(word.replace('inf', 'Infinity').replace(/[+-]?nan/, 'NaN')));
        const digits = word.replace(/(?<=[0-9a-fA-F])_(?=[0-9a-fA-F])/g, '');
        if (/^[+-]?(0|[1-9]\d*)$/.test(digits) || /^0(x[0-9a-fA-F]+|o[0-7]+|b[01]+)$/.test(digits)) return Number(digits);
        if (/^[+-]?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?$/.test(digits)) return new Float(Number(digits));
        throw this.#error(`${word} is no value`);
    }

    #basic() {
        const text = this.#match(/"(?:[^"\\\n]|\\.)*"/y, 'a text');
        return this.#unescape(text.slice(1, -1));
    }

    #literal() {
        return this.#match(/'[^'\n]*'/y, 'a text').slice(1, -1);
    }

    #multiline(quotes) {
        const all = quotes === '"""' ? /"""\n?((?:[^"\\]|\\[^]|"{1,2}(?!"))*"{0,2})"""/y : /'''\n?((?:[^']|'{1,2}(?!'))*'{0,2})'''/y;
        const text = this.#match(all, 'a text').slice(3, -3).replace(/^\n/, '');
        return quotes === '"""' ? this.#unescape(text.replace(/\\[ \t]*\n\s*/g, '')) : text;
    }

    #unescape(text) {
        const known = { b: '\b', t: '\t', n: '\n', f: '\f', r: '\r', '"': '"', '\\': '\\' };
        return text.replace(/\\(u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|[^])/g, (whole, code) => {
            if (code.length > 1) return String.fromCodePoint(Number.parseInt(code.slice(1), 16));
            if (!(code in known)) throw this.#error(`${whole} is no escape`);
            return known[code];
        });
    }

    #array() {
        const elements = [];
        this.#take('[');
        for (;;) {
            this.#blank();
            if (this.#take(']')) return elements;
            elements.push(this.#value());
            this.#blank();
            if (!this.#take(',') && this.#text[this.#at] !== ']') throw this.#error('expected , or ]');
        }
    }

    #inline() {
        const table = new Map();
        this.#take('{');
        this.#space();
        if (!this.#take('}')) {
            do this.#pair(table); while (this.#space(), this.#take(','));
            if (!this.#take('}')) throw this.#error('expected , or }');
        }
        return table;
    }

    #space() { this.#match(/[ \t]*(#[^\n]*)?/y); }
    #blank() { this.#match(/([ \t\n]|#[^\n]*)*/y); }

    #take(what) {
        if (!this.#text.startsWith(what, this.#at)) return false;
        this.#at += what.length;
        return true;
    }

    #match(pattern, what) {
        pattern.lastIndex = this.#at;
        const found = pattern.exec(this.#text);
        if (found === null) throw this.#error(`expected ${what}`);
        this.#at += found[0].length;
        return found[0];
    }

    #error(what) {
        const line = this.#text.slice(0, this.#at).split('\n').length;
        return new Error(`line ${line}: ${what}`);
    }
}
