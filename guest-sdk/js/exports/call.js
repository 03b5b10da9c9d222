import { handlerErrorOf, unknownProcedure } from '../failures.js';
import { asRequest, bytesOf } from '../payload.js';
import { settled } from '../settled.js';

/** The contract's call handler. */
export function call(plugin) {
    const procedures = plugin.procedures === undefined || Array.isArray(plugin.procedures) ? {} : plugin.procedures;
    return {
        onCall(record) {
            try {
                const own = Object.hasOwn(procedures, record.procedure) ? procedures[record.procedure] : undefined;
                const handle = own?.handler ?? own ?? plugin.onCall?.bind(plugin);
                if (handle === undefined) throw unknownProcedure(record.procedure);
                return bytesOf(settled('the handler of a call', handle(asRequest(record))));
            } catch (thrown) {
                throw handlerErrorOf(thrown);
            }
        },
    };
}
