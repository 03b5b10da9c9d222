import * as contract from 'macula:plugin/timers@0.1.0';
import { lift } from './errors.js';

export function after(name, delayMs) {
    try {
        contract.after(name, delayMs);
    } catch (thrown) {
        throw lift(thrown);
    }
}

export function every(name, periodMs) {
    try {
        contract.every(name, periodMs);
    } catch (thrown) {
        throw lift(thrown);
    }
}

export function cancelTimer(name) {
    return contract.cancel(name);
}
