// What a handler's exception means for the message or the call, and how to say otherwise.

import { MaculaError, CallError, HandlerError, DecodeError } from './errors.js';
import { shortened, wellFormed } from './text.js';

/** What the contract allows the text of a handler's no. */
const MESSAGE_BYTES_MAX = 1024;

/** An exception with what the handler itself said is to become of the message or the call. */
class Failure extends Error {
    constructor(cause, remedy, code) {
        super(textOf(cause), { cause });
        this.remedy = remedy;
        this.code = code;
    }
}

/** `throw retry(error)`: deliver the message again after the host's growing delay. */
export function retry(cause) {
    return new Failure(cause, () => ({ tag: 'retry', val: undefined }));
}

/** `throw retryAfter(ms, error)`: deliver the message again after so many milliseconds. */
export function retryAfter(milliseconds, cause) {
    return new Failure(cause, () => ({ tag: 'retry', val: milliseconds }));
}

/** `throw reject(error)`: this plugin will never handle the message; it is counted and logged, then dropped. */
export function reject(cause) {
    return new Failure(cause, (text) => ({ tag: 'reject', val: text }));
}

/** `throw deadLetter(error)`: keep the message for a person to look at and to replay. */
export function deadLetter(cause) {
    return new Failure(cause, (text) => ({ tag: 'dead-letter', val: text }));
}

/** `throw withCode(code, error)`: answer the call with this code. */
export function withCode(code, cause) {
    return new Failure(cause, undefined, code);
}

/** The answer to a call of a procedure that this plugin does not know. */
export function unknownProcedure(procedure) {
    return new HandlerError('unknown-procedure', `this plugin has no procedure ${procedure}`);
}

/** What becomes of a message whose handler threw. */
export function dispositionOf(thrown) {
    if (thrown instanceof Failure && thrown.remedy !== undefined) return thrown.remedy(thrown.message);
    const text = textOf(thrown);
    const cause = causeOf(thrown);
    if (cause instanceof CallError && cause.outcome === 'maybe-run') return { tag: 'dead-letter', val: text };
    if (cause instanceof HandlerError || cause instanceof DecodeError) return { tag: 'reject', val: text };
    if (cause instanceof MaculaError || cause instanceof CallError) {
        switch (cause.code) {
            case 'invalid': case 'too-large': return { tag: 'reject', val: text };
            case 'denied': return { tag: 'dead-letter', val: text };
            default: return { tag: 'retry', val: undefined };
        }
    }
    return { tag: 'dead-letter', val: withPlace(text, cause) };
}

/** What a caller gets whose call's handler threw. */
export function handlerErrorOf(thrown) {
    const cause = causeOf(thrown);
    const text = shortened(textOf(thrown), MESSAGE_BYTES_MAX);
    const code = thrown instanceof Failure && thrown.code !== undefined ? thrown.code : codeOf(cause);
    return { code: wellFormed(code), message: text, data: cause instanceof HandlerError ? cause.data : new Uint8Array(0) };
}

/** What the host is told when a handler of no message and no call threw. */
export function hostErrorOf(thrown) {
    const cause = causeOf(thrown);
    if (!(cause instanceof MaculaError)) return { tag: 'other', val: withPlace(textOf(thrown), cause) };
    switch (cause.code) {
        case 'timeout': case 'cancelled': return { tag: cause.code };
        case 'too-large': return { tag: 'too-large', val: cause.bytesMax };
        default: return { tag: cause.code, val: wellFormed(cause.text) };
    }
}

function codeOf(cause) {
    if (cause instanceof HandlerError || cause instanceof MaculaError || cause instanceof CallError) return cause.code;
    return cause instanceof DecodeError ? 'bad-arguments' : 'failed';
}

function causeOf(thrown) {
    return thrown instanceof Failure ? thrown.cause : thrown;
}

function textOf(thrown) {
    // Texts of errors often hold what somebody else has sent; the host ends an instance that hands over half a pair.
    return wellFormed(thrown instanceof Error ? thrown.message : String(thrown));
}

/** Mistakes in the program are told with where they are. */
function withPlace(text, cause) {
    const place = cause instanceof Error && typeof cause.stack === 'string' ? cause.stack.split('\n', 1)[0].trim() : '';
    const name = cause instanceof Error && cause.name !== 'Error' ? `${cause.name}: ` : '';
    return place === '' ? name + text : `${name}${text} (${place})`;
}
