// Adds up an invoice. What tax a country adds is asked of another plugin, in another language: tax-go, wherever in the
// realm that runs, which in turn asks the calculator.

import { CallError, HandlerError, callJSON, withCode } from 'macula';
import { netOf } from './lines.js';

export default {
    onCall(request) {
        const { country, lines } = request.json() ?? {};
        if (typeof country !== 'string') throw new HandlerError('bad-arguments', 'country: a text is needed, such as "DE"');
        const net = netOf(lines);
        const { rate, tax, gross } = taxOf({ country, net }, request.timeLeftMs);
        return { country, net, rate, tax, gross };
    },
};

/** Asks for no more time than our own caller has left. Codes of the tax plugin, such as `unknown-country`, go on to it. */
function taxOf(question, timeLeftMs) {
    try {
        return callJSON('tax.of', question, { timeoutMs: Math.max(1, timeLeftMs) });
    } catch (error) {
        if (error instanceof HandlerError && error.code === 'unknown-country') {
            throw new HandlerError(error.code, `an invoice to ${question.country} cannot be added up: ${error.message}`);
        }
        if (error instanceof CallError && error.outcome === 'not-run' && error.code === 'not-found') {
            throw withCode('no-tax', new Error(`nobody here knows taxes: ${error.message}`));
        }
        throw error;
    }
}
