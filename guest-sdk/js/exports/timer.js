import { hostErrorOf } from '../failures.js';
import { asNumbers } from '../lifted.js';
import { settled } from '../settled.js';

/** The contract's timer handler. */
export function timer(plugin) {
    const timers = plugin.timers ?? {};
    return {
        onTimer(tick) {
            try {
                const handle = Object.hasOwn(timers, tick.name) ? timers[tick.name].handler : undefined;
                settled('the handler of a timer', (handle ?? plugin.onTimer?.bind(plugin) ?? missing)(asNumbers(tick, 'dueMs')));
            } catch (thrown) {
                throw hostErrorOf(thrown);
            }
        },
    };
}

function missing(tick) {
    throw new Error(`no handler for timer ${tick.name}`);
}
