import * as contract from 'macula:plugin/timers@0.1.0';
import { lift } from './errors.js';
import { named } from './names.js';
import { isWellFormed } from './text.js';

export function after(name, delayMs) {
    try {
        contract.after(named('timer', name), delayMs);
    } catch (thrown) {
        throw lift(thrown);
    }
}

export function every(name, periodMs) {
    try {
        contract.every(named('timer', name), periodMs);
    } catch (thrown) {
        throw lift(thrown);
    }
}

export function cancelTimer(name) {
    return isWellFormed(name) && contract.cancel(name);
}
