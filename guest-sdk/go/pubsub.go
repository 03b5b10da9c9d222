package macula

import (
	"cmp"
	"context"
	"encoding/json"
	"slices"
)

// Delivery is how hard the mesh tries.
type Delivery uint8

const (
	// Ordered: in order for each publisher, kept while subscribers' queues have room. The default.
	Ordered Delivery = iota
	// Latest: only the newest value counts; older ones may be overtaken or dropped.
	Latest
	// Acked: ordered, and the publish waits until a relay has taken the message.
	Acked
)

// ReceiptLevel is where a message was known to be when the publish returned, from weak to strong.
type ReceiptLevel uint8

const (
	// ReceiptHost: in this host's queue.
	ReceiptHost ReceiptLevel = iota
	// ReceiptRelayMemory: in a relay's memory; survives the death of this host.
	ReceiptRelayMemory
	// ReceiptRelayDisk: on a relay's disk; survives the death of the relay as well.
	ReceiptRelayDisk
)

// Receipt is what is known about a message that was accepted.
type Receipt struct {
	// As subscribers will see them.
	Epoch, Seq uint64
	Level      ReceiptLevel
}

// PublishOptions are what options to [Publish] set. A plugin uses the options; tests see what they made.
type PublishOptions struct {
	Delivery    Delivery
	Retain      bool
	ContentType string
	Metadata    Metadata
}

// PublishOption says how to publish: [Delivery], [Retain], [ContentType], [Meta].
type PublishOption interface{ applyPublish(*PublishOptions) }

func (d Delivery) applyPublish(o *PublishOptions) { o.Delivery = d }

type retain struct{}

func (retain) applyPublish(o *PublishOptions) { o.Retain = true }

// Retain keeps the message as the topic's last value, for subscribers to come. With an empty payload: forget the last
// value.
func Retain() PublishOption { return retain{} }

type contentType string

func (c contentType) applyPublish(o *PublishOptions) { o.ContentType = string(c) }
func (c contentType) applyCall(o *CallOptions)       { o.ContentType = string(c) }

// ContentTypeOption goes with a publish and with a call.
type ContentTypeOption interface {
	PublishOption
	CallOption
}

// ContentType gives the payload's media type, at most 127 bytes.
func ContentType(mediaType string) ContentTypeOption { return contentType(mediaType) }

// MetaOption goes with a publish, a call and an offer.
type MetaOption interface {
	PublishOption
	CallOption
	AdvertiseOption
}

type meta struct{ name, value string }

func (m meta) add(to *Metadata) {
	if *to == nil {
		*to = make(Metadata)
	}
	(*to)[m.name] = m.value
}

func (m meta) applyPublish(o *PublishOptions)     { m.add(&o.Metadata) }
func (m meta) applyCall(o *CallOptions)           { m.add(&o.Metadata) }
func (m meta) applyAdvertise(o *AdvertiseOptions) { m.add(&o.Metadata) }

// Meta adds a named value. "traceparent" and "tracestate" (W3C Trace Context) replace the trace the host would have
// continued by itself.
func Meta(name, value string) MetaOption { return meta{name, value} }

// Publish sends one message to everybody subscribed in this realm; the plugin itself gets it too if it matches. It waits
// while this host's queue is full, and with [Acked] for the relay.
//
// Errors: ErrDenied; ErrInvalid (topic, content type, metadata); ErrTooLarge (payload above 1 MiB); ErrQuotaExceeded
// (rate); ErrTimeout (may still be delivered); ErrUnavailable (was not sent).
func Publish(ctx context.Context, topic string, payload []byte, options ...PublishOption) error {
	_, err := publish(ctx, topic, payload, options)
	return err
}

// PublishJSON publishes value as JSON, with the content type "application/json".
func PublishJSON(ctx context.Context, topic string, value any, options ...PublishOption) error {
	payload, err := json.Marshal(value)
	if err != nil {
		return &Error{Kind: ErrInvalid, Text: "payload: " + err.Error()}
	}
	_, err = publish(ctx, topic, payload, append([]PublishOption{contentType("application/json")}, options...))
	return err
}

// PublishAcked publishes with delivery [Acked], and says how safe the message is.
func PublishAcked(ctx context.Context, topic string, payload []byte, options ...PublishOption) (Receipt, error) {
	return publish(ctx, topic, payload, append(slices.Clone(options), Acked))
}

func publish(ctx context.Context, topic string, payload []byte, options []PublishOption) (Receipt, error) {
	if err := cmp.Or(over(ctx), checkName("topic", topic)); err != nil {
		return Receipt{}, err
	}
	if len(options) == 0 {
		return hostPublish(topic, payload, nil)
	}
	var o PublishOptions
	for _, option := range options {
		option.applyPublish(&o)
	}
	if err := cmp.Or(checkName("content type", o.ContentType), o.Metadata.check()); err != nil {
		return Receipt{}, err
	}
	return hostPublish(topic, payload, &o)
}

// Retained reads the stored last value of one topic, without subscribing; nil when there is none.
//
// Errors: ErrDenied, ErrInvalid, ErrTimeout, ErrUnavailable.
func Retained(ctx context.Context, topic string) (*Message, error) {
	if err := cmp.Or(over(ctx), checkName("topic", topic)); err != nil {
		return nil, err
	}
	return hostRetained(topic)
}

// WhenFull is what happens when a subscription's queue is full.
type WhenFull uint8

const (
	// DropOldest forgets the oldest queued message. The default.
	DropOldest WhenFull = iota
	// LatestOnly keeps only the newest message of each topic.
	LatestOnly
	// Block holds back the receipts of acked publishers until there is room, for at most 2 s at a stretch; after that,
	// and for all other publishers, it is like DropOldest.
	Block
)

// SubscribeOptions are what options to [Subscribe] set.
type SubscribeOptions struct {
	WhenFull WhenFull
	// 0 for the host's own.
	QueueMessages uint32
	Retained      bool
}

// SubscribeOption says how to subscribe: [WhenFull], [QueueMessages], [NoRetained].
type SubscribeOption interface{ applySubscribe(*SubscribeOptions) }

func (w WhenFull) applySubscribe(o *SubscribeOptions) { o.WhenFull = w }

type queueMessages uint32

func (q queueMessages) applySubscribe(o *SubscribeOptions) { o.QueueMessages = uint32(q) }

// QueueMessages bounds the messages waiting for this plugin, 1 to 65,536.
func QueueMessages(messagesMax uint32) SubscribeOption { return queueMessages(messagesMax) }

type noRetained struct{}

func (noRetained) applySubscribe(o *SubscribeOptions) { o.Retained = false }

// NoRetained does not begin with stored last values.
func NoRetained() SubscribeOption { return noRetained{} }

// SubscriptionStats are counts since the subscription began.
type SubscriptionStats struct {
	// Handed to the handler, each once.
	Delivered uint64
	// Dropped because the queue was full, here or at a relay.
	Dropped uint64
	// Waiting now.
	Queued uint32
}

// Subscription is a running subscription. It runs until Unsubscribe or the end of the instance; forgetting it changes
// nothing. The queue behind it belongs to the plugin: the next instance that subscribes to the same pattern when it
// starts goes on where this one stopped.
type Subscription struct {
	pattern string
	id      uint32
	handle  resource
}

// Subscribe asks for all messages whose topic matches: a topic in which * stands for one segment and a final ** for one
// or more. It takes effect when the current handler returns.
//
// Errors: ErrDenied (some topic of the pattern is not allowed: the whole pattern must be); ErrInvalid; ErrQuotaExceeded
// (too many); ErrConflict (this instance already holds the same pattern).
func Subscribe(ctx context.Context, pattern string, options ...SubscribeOption) (*Subscription, error) {
	if err := cmp.Or(over(ctx), checkName("pattern", pattern)); err != nil {
		return nil, err
	}
	var o *SubscribeOptions
	if len(options) > 0 {
		o = &SubscribeOptions{Retained: true}
		for _, option := range options {
			option.applySubscribe(o)
		}
	}
	handle, err := hostSubscribe(pattern, o)
	if err != nil {
		return nil, err
	}
	return &Subscription{pattern, hostSubscriptionID(handle), handle}, nil
}

// ID is the number in [Message.Subscription]; never 0, which stands for subscriptions of the manifest.
func (s *Subscription) ID() uint32 { return s.id }

// Pattern is the pattern as given.
func (s *Subscription) Pattern() string { return s.pattern }

// Stats counts since the subscription began.
func (s *Subscription) Stats() SubscriptionStats { return hostSubscriptionStats(s.handle) }

// Unsubscribe ends it: what is still queued is dropped, and nothing of it arrives any more. Twice is once.
func (s *Subscription) Unsubscribe() { hostUnsubscribe(s.handle) }
