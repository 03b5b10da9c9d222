import { subscribe } from '../pubsub.js';
import { subscribed } from '../subscribed.js';

/** Opens the plugin's `subscriptions`: patterns, or handlers by pattern, or `{ handler, …options }` by pattern. */
export function openSubscriptions(plugin) {
    const asked = plugin.subscriptions;
    const entries = Array.isArray(asked) ? asked.map((pattern) => [pattern, undefined]) : Object.entries(asked);
    for (const [pattern, value] of entries) {
        const { handler, ...options } = typeof value === 'function' || value === undefined ? { handler: value } : value;
        const subscription = subscribe(pattern, Object.keys(options).length === 0 ? undefined : options);
        if (handler !== undefined) subscribed.set(subscription.id(), handler);
    }
}
