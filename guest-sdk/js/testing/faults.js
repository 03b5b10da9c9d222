// The contract's error, as hosts throw it.

const encoder = new TextEncoder();

export const bytesIn = (text) => encoder.encode(text).length;

export const fault = (tag, val) => ({ tag, val });
export const invalid = (text) => fault('invalid', text);

/** What one payload, one piece of content and one value of a bucket may hold. */
export const PAYLOAD_BYTES_MAX = 1 << 20;

export function checkPayload(bytes) {
    if (bytes.length > PAYLOAD_BYTES_MAX) throw fault('too-large', PAYLOAD_BYTES_MAX);
}
