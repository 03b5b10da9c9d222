import { every } from '../timers.js';

/** Sets the plugin's `timers`: `{ everyMs, handler }` by name. */
export function openTimers(plugin) {
    for (const [name, { everyMs }] of Object.entries(plugin.timers)) every(name, everyMs);
}
