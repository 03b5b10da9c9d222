import { hostErrorOf } from '../failures.js';
import { settled } from '../settled.js';

/** The contract's config handler. */
export function config(plugin) {
    return {
        onConfigChanged(keys) {
            try {
                settled('onConfigChange', plugin.onConfigChange?.(keys));
            } catch (thrown) {
                throw hostErrorOf(thrown);
            }
        },
        onRightsChanged() {
            plugin.onRightsChange?.();
        },
    };
}
