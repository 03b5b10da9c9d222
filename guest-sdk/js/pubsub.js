import * as contract from 'macula:plugin/pubsub@0.1.0';
import { lift } from './errors.js';
import { asNumbers } from './lifted.js';
import { named } from './names.js';
import { asMessage, bytesOf, pairsOf, typeOf } from './payload.js';

function send(topic, value, options, delivery) {
    const contentType = named('content type', options?.contentType ?? typeOf(value));
    const plain = contentType === '' && delivery === 'ordered' && options === undefined;
    const asked = plain ? undefined : {
        delivery: options?.delivery ?? delivery,
        retain: options?.retain ?? false,
        contentType,
        metadata: pairsOf(options?.metadata),
    };
    try {
        return contract.publish(named('topic', topic), bytesOf(value), asked);
    } catch (thrown) {
        throw lift(thrown);
    }
}

export function publish(topic, value, options) {
    send(topic, value, options, 'ordered');
}

export function publishAcked(topic, value, options) {
    return asNumbers(send(topic, value, { ...options, delivery: 'acked' }, 'acked'), 'epoch', 'seq');
}

export function retained(topic) {
    try {
        const message = contract.retained(named('topic', topic));
        return message === undefined || message === null ? undefined : asMessage(message);
    } catch (thrown) {
        throw lift(thrown);
    }
}

class Subscription {
    #subscription;
    constructor(subscription) { this.#subscription = subscription; }

    id() { return this.#subscription.id(); }
    pattern() { return this.#subscription.pattern(); }
    stats() { return asNumbers(this.#subscription.stats(), 'delivered', 'dropped', 'queued'); }
    unsubscribe() { this.#subscription.unsubscribe(); }
}

export function subscribe(pattern, options) {
    named('pattern', pattern);
    const asked = options === undefined ? undefined : {
        whenFull: options.whenFull ?? 'drop-oldest',
        queueMessages: options.queueMessages,
        retained: options.retained ?? true,
    };
    try {
        return new Subscription(contract.subscribe(pattern, asked));
    } catch (thrown) {
        throw lift(thrown);
    }
}
