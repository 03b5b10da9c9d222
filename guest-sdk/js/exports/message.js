import { dispositionOf } from '../failures.js';
import { asMessage } from '../payload.js';
import { settled } from '../settled.js';
import { subscribed } from '../subscribed.js';

const ACK = { tag: 'ack' };

/** The contract's message handler. */
export function message(plugin) {
    return {
        onMessage(record) {
            try {
                const handle = subscribed.get(record.subscription);
                if (handle !== undefined) settled('a handler of subscriptions', handle(asMessage(record)));
                else if (plugin.onMessage !== undefined) settled('onMessage', plugin.onMessage(asMessage(record)));
                else throw new Error('this plugin has no onMessage, and no handler for this subscription');
                return ACK;
            } catch (thrown) {
                return dispositionOf(thrown);
            }
        },
    };
}
