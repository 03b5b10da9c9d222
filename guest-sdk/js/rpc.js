import * as contract from 'macula:plugin/rpc@0.1.0';
import { CallError, HandlerError, MaculaError, caseOf, lift } from './errors.js';
import { asBytes } from './lifted.js';
import { named } from './names.js';
import { bytesOf, pairsOf, readJSON, typeOf } from './payload.js';

/** How long a call without `timeoutMs` waits, at most. */
const TIMEOUT_MS = 5000;

export function call(procedure, value, options) {
    try {
        const contentType = named('content type', options?.contentType ?? typeOf(value));
        const asked = options === undefined && contentType === '' ? undefined : {
            timeoutMs: options?.timeoutMs ?? TIMEOUT_MS,
            contentType,
            idempotencyKey: named('idempotency key', options?.idempotencyKey ?? ''),
            metadata: pairsOf(options?.metadata),
        };
        return asBytes(contract.call(named('procedure', procedure), bytesOf(value), asked));
    } catch (thrown) {
        if (thrown instanceof MaculaError) throw new CallError('not-run', thrown);
        const error = caseOf(thrown);
        if (error === undefined) throw thrown;
        if (error.tag === 'handler') throw new HandlerError(error.val.code, error.val.message, asBytes(error.val.data));
        throw new CallError(error.tag, lift(error.val));
    }
}

export function callJSON(procedure, value, options) {
    return readJSON('answer', call(procedure, value, options));
}

export function advertise(procedure, options) {
    const asked = options === undefined ? undefined : {
        inFlightMax: options.inFlightMax,
        metadata: pairsOf(options.metadata),
    };
    try {
        return contract.advertise(named('procedure', procedure), asked);
    } catch (thrown) {
        throw lift(thrown);
    }
}
