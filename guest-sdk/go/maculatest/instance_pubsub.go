//go:build !wasip1

package maculatest

import (
	"bytes"
	"cmp"
	"maps"
	"slices"

	"macula.host/macula"
)

func (i *instance) Publish(topic string, payload []byte, o *macula.PublishOptions) (macula.Receipt, error) {
	if o == nil {
		o = &macula.PublishOptions{}
	}
	err := cmp.Or(checkTopic(topic), checkPayload(payload), checkContentType(o.ContentType), checkMetadata(o.Metadata))
	if err != nil {
		return macula.Receipt{}, err
	}
	defer i.lock()()
	if err := i.rights.check(toPublish, topic); err != nil {
		return macula.Receipt{}, err
	}
	i.publishedCount++
	published := Published{
		Topic: topic, Payload: bytes.Clone(payload), ContentType: o.ContentType,
		Delivery: o.Delivery, Retain: o.Retain, Metadata: maps.Clone(o.Metadata),
	}
	i.published = append(i.published, published)
	if o.Retain {
		i.retain(macula.Message{
			Topic: topic, Payload: payload, ContentType: o.ContentType, Publisher: principal,
			Seq: i.publishedCount, Metadata: o.Metadata,
		})
	}
	receipt := macula.Receipt{Epoch: 1, Seq: i.publishedCount, Level: macula.ReceiptHost}
	if o.Delivery == macula.Acked {
		receipt.Level = macula.ReceiptRelayMemory
	}
	return receipt, nil
}

// retain keeps a topic's last value, or forgets it when there is nothing in it.
func (s *state) retain(msg macula.Message) {
	if len(msg.Payload) == 0 {
		delete(s.retained, msg.Topic)
		return
	}
	s.complete(&msg)
	msg.Retained = true
	s.retained[msg.Topic] = cloned(msg)
}

// complete fills in what a test, or a plugin that publishes, leaves to the mesh.
func (s *state) complete(msg *macula.Message) {
	if msg.Publisher == "" {
		msg.Publisher = peer
	}
	if msg.TimestampMs == 0 {
		msg.TimestampMs = s.nowMs
	}
	msg.Epoch, msg.Attempt = max(msg.Epoch, 1), max(msg.Attempt, 1)
}

// cloned gives a message that its owner may change.
func cloned(msg macula.Message) macula.Message {
	msg.Payload, msg.Metadata = bytes.Clone(msg.Payload), maps.Clone(msg.Metadata)
	return msg
}

func (i *instance) Retained(topic string) (*macula.Message, error) {
	if err := checkTopic(topic); err != nil {
		return nil, err
	}
	defer i.lock()()
	if err := i.rights.check(toSubscribe, topic); err != nil {
		return nil, err
	}
	msg, ok := i.retained[topic]
	if !ok {
		return nil, nil
	}
	msg = cloned(msg)
	return &msg, nil
}

// Subscribe gives the subscription's number as its handle: it stays the same when the next instance takes it over.
func (i *instance) Subscribe(pattern string, o *macula.SubscribeOptions) (handle int32, err error) {
	if !isPattern(pattern) {
		return 0, invalid("%q is not a pattern such as sensors.*.temperature", pattern)
	}
	if o != nil && o.QueueMessages > waitingMax {
		return 0, invalid("a queue of %d messages: 1 to 65,536", o.QueueMessages)
	}
	defer i.lock()()
	if !i.abilities.message {
		return 0, invalid("a subscription needs a message handler")
	}
	if err := i.rights.check(toSubscribe, pattern); err != nil {
		return 0, err
	}
	return i.claimSubscription(pattern)
}

// claimSubscription takes over the subscription of the instance before, or begins one.
func (s *state) claimSubscription(pattern string) (handle int32, err error) {
	var last uint32
	for _, known := range s.subscriptions {
		last = max(last, known.id)
		if known.id == 0 || known.pattern != pattern {
			continue
		}
		if known.claimed {
			return 0, fault(macula.ErrConflict, "already subscribed to %s", pattern)
		}
		known.claimed = true
		return int32(known.id), nil
	}
	if limit := s.manifest.limits.subscriptions; len(s.subscriptions) >= limit {
		return 0, fault(macula.ErrQuotaExceeded, "%d subscriptions", limit)
	}
	s.subscriptions = append(s.subscriptions, &subscription{id: last + 1, pattern: pattern, claimed: true})
	return int32(last + 1), nil
}

func (i *instance) SubscriptionID(handle int32) uint32 { return uint32(handle) }

func (i *instance) SubscriptionStats(handle int32) macula.SubscriptionStats {
	defer i.lock()()
	for _, known := range i.subscriptions {
		if known.id == uint32(handle) {
			return known.stats
		}
	}
	return macula.SubscriptionStats{}
}

func (i *instance) Unsubscribe(handle int32) {
	defer i.lock()()
	i.subscriptions = slices.DeleteFunc(i.subscriptions, func(known *subscription) bool { return known.id == uint32(handle) })
}
