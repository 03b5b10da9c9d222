import { MaculaError } from '../errors.js';
import { hostErrorOf } from '../failures.js';
import { settled } from '../settled.js';

/** The contract's config handler. */
export function config(plugin) {
    return {
        onConfigChanged(keys) {
            try {
                // The component has this handler for the sake of onRightsChange. Saying nothing would say that the new
                // settings are in force.
                if (plugin.onConfigChange === undefined) {
                    throw new MaculaError('invalid', 'this plugin reads changed settings only when it starts: it has no onConfigChange');
                }
                settled('onConfigChange', plugin.onConfigChange(keys));
            } catch (thrown) {
                throw hostErrorOf(thrown);
            }
        },
        onRightsChanged() {
            plugin.onRightsChange?.();
        },
    };
}
