// Text and bytes. QuickJS has no TextEncoder and no TextDecoder; what it has is what escapes and unescapes UTF-8, and that
// runs as native code.

// Arguments of one call of a function.
const CHUNK = 8192;

// Half a pair of surrogates. With `u` whole pairs are one character, and no match.
const LONE = /[\ud800-\udfff]/u;
const LONE_ALL = /[\ud800-\udfff]/gu;

/** Text as UTF-8. */
export function encode(text) {
    let length = text.length;
    let bytes = new Uint8Array(length);
    for (let index = 0; index < length; index++) {
        const unit = text.charCodeAt(index);
        if (unit > 0x7f) return encodeWide(text);
        bytes[index] = unit;
    }
    return bytes;
}

function encodeWide(text) {
    const units = unescape(encodeURIComponent(wellFormed(text)));
    const bytes = new Uint8Array(units.length);
    for (let index = 0; index < units.length; index++) bytes[index] = units.charCodeAt(index);
    return bytes;
}

/** Whether it can be written as UTF-8: half a pair of surrogates is no character. */
export function isWellFormed(text) {
    return text.isWellFormed?.() ?? !LONE.test(text);
}

/** Text that can be written as UTF-8: half a pair becomes U+FFFD, as everywhere. */
export function wellFormed(text) {
    return text.toWellFormed?.() ?? text.replace(LONE_ALL, '\ufffd');
}

/** The beginning of a text, of so many bytes at most, up to the end of a character. */
export function shortened(text, bytesMax) {
    const bytes = encode(text);
    if (bytes.length <= bytesMax) return text;
    let end = bytesMax;
    while ((bytes[end] & 0xc0) === 0x80) end -= 1;
    return decode(bytes.subarray(0, end));
}

/** UTF-8 as text. Throws a URIError when the bytes are no UTF-8. */
export function decode(bytes) {
    let units = '';
    for (let at = 0; at < bytes.length; at += CHUNK) {
        units += String.fromCharCode.apply(null, bytes.length <= CHUNK ? bytes : bytes.subarray(at, at + CHUNK));
    }
    // eslint-disable-next-line no-control-regex
    return /^[\x00-\x7f]*$/.test(units) ? units : decodeURIComponent(escape(units));
}
