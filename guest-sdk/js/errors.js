// Why something did not work, as classes to ask for with instanceof.

const CODES = {
    denied: 'denied', invalid: 'invalid', 'not-found': 'not found', timeout: 'timeout', unavailable: 'unavailable',
    'too-large': 'too large', 'quota-exceeded': 'quota exceeded', conflict: 'conflict', cancelled: 'cancelled', other: 'other',
};

/** Why the host or the mesh did not do what was asked: `code` says which case of the contract's error it is. */
export class MaculaError extends Error {
    constructor(code, text = '', bytesMax = undefined) {
        const detail = bytesMax === undefined ? text : `at most ${bytesMax} bytes`;
        super(detail === '' ? CODES[code] ?? code : `${CODES[code] ?? code}: ${detail}`);
        this.name = 'MaculaError';
        this.code = code;
        this.text = text;
        this.bytesMax = bytesMax;
    }
}

/** Why a call gave no answer: `outcome` is 'not-run' or 'maybe-run'. */
export class CallError extends Error {
    constructor(outcome, cause) {
        super(`${outcome === 'not-run' ? 'the call did not run' : 'the call may have run'}: ${cause.message}`, { cause });
        this.name = 'CallError';
        this.outcome = outcome;
        this.code = cause.code;
    }
}

/** A handler's own no to a call, given to the caller unchanged. */
export class HandlerError extends Error {
    constructor(code, message, data = new Uint8Array(0)) {
        super(message);
        this.name = 'HandlerError';
        this.code = code;
        this.data = data;
    }
}

/** A payload or a setting is not of the form that was asked for. */
export class DecodeError extends Error {
    constructor(what, cause) {
        super(`${what}: ${cause.message}`, { cause });
        this.name = 'DecodeError';
    }
}

/** The contract's error as ours. What the engine throws is the case itself, or an Error that has it. */
export function lift(thrown) {
    const error = caseOf(thrown);
    if (error === undefined) return thrown;
    return error.tag === 'too-large' ? new MaculaError('too-large', '', error.val) : new MaculaError(error.tag, error.val ?? '');
}

/** The case of a variant that was thrown; undefined for an exception of another kind. */
export function caseOf(thrown) {
    if (thrown !== null && typeof thrown === 'object') {
        if (typeof thrown.tag === 'string') return thrown;
        if (thrown.payload !== null && typeof thrown.payload === 'object' && typeof thrown.payload.tag === 'string') return thrown.payload;
    }
    return undefined;
}
