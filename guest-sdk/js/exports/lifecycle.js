import { hostErrorOf } from '../failures.js';
import { settled } from '../settled.js';
import { wellFormed } from '../text.js';

/** The contract's lifecycle; `openers` open what the plugin's lists name, before its own start. */
export function lifecycle(plugin, openers) {
    return {
        init(reason) {
            try {
                for (const open of openers) open(plugin);
                settled('onStart', plugin.onStart?.(reason));
            } catch (thrown) {
                throw hostErrorOf(thrown);
            }
        },
        health() {
            const health = plugin.onHealth?.();
            if (health === undefined || health === true || health === 'healthy') return { tag: 'healthy' };
            if (typeof health === 'string') return { tag: 'unhealthy', val: wellFormed(health) };
            if (typeof health.degraded === 'string') return { tag: 'degraded', val: wellFormed(health.degraded) };
            return { tag: 'unhealthy', val: wellFormed(String(health.unhealthy ?? 'onHealth says neither healthy nor why not')) };
        },
        shutdown(reason, graceMs) {
            plugin.onStop?.(reason, graceMs);
        },
    };
}
