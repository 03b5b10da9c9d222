package macula

import (
	"runtime"
	"unsafe"
)

//go:wasmimport macula:plugin/pubsub@0.1.0 publish
func wasmPublish(
	topic, payload string,
	some bool, delivery uint32, retain bool, contentType string, metadata unsafe.Pointer, metadataLength uint32,
	result unsafe.Pointer,
)

func hostPublish(topic string, payload []byte, o *PublishOptions) (Receipt, error) {
	before := incoming.mark()
	defer incoming.release(before)
	if o == nil {
		wasmPublish(topic, text(payload), false, 0, false, "", nil, 0, resultArea())
	} else {
		pairs := pairsOf(o.Metadata)
		wasmPublish(topic, text(payload), true, uint32(o.Delivery), o.Retain, o.ContentType,
			unsafe.Pointer(unsafe.SliceData(pairs)), uint32(len(pairs)), resultArea())
		runtime.KeepAlive(o)
	}
	if err := failedWide(); err != nil {
		return Receipt{}, err
	}
	return Receipt{Epoch: at[uint64](8), Seq: at[uint64](16), Level: at[ReceiptLevel](24)}, nil
}

//go:wasmimport macula:plugin/pubsub@0.1.0 retained
func wasmRetained(topic string, result unsafe.Pointer)

// retainedMessage is types.message in memory.
type retainedMessage struct {
	topic, payload, contentType, publisher list
	epoch, seq, timestampMs                uint64
	attempt                                uint32
	retained                               bool
	subscription                           uint32
	metadata                               list
}

func hostRetained(topic string) (*Message, error) {
	before := incoming.mark()
	defer incoming.release(before)
	wasmRetained(topic, resultArea())
	if err := failedWide(); err != nil {
		return nil, err
	}
	if !at[bool](8) {
		return nil, nil
	}
	message := at[retainedMessage](16)
	return &Message{
		Topic:        message.topic.text(),
		Payload:      message.payload.bytes(),
		ContentType:  message.contentType.text(),
		Publisher:    message.publisher.text(),
		Epoch:        message.epoch,
		Seq:          message.seq,
		TimestampMs:  message.timestampMs,
		Attempt:      message.attempt,
		Retained:     message.retained,
		Subscription: message.subscription,
		Metadata:     message.metadata.metadata(),
	}, nil
}

//go:wasmimport macula:plugin/pubsub@0.1.0 subscribe
func wasmSubscribe(
	pattern string, some bool, whenFull uint32, limited bool, queueMessages uint32, retained bool, result unsafe.Pointer,
)

func hostSubscribe(pattern string, o *SubscribeOptions) (resource, error) {
	before := incoming.mark()
	defer incoming.release(before)
	if o == nil {
		wasmSubscribe(pattern, false, 0, false, 0, false, resultArea())
	} else {
		wasmSubscribe(pattern, true, uint32(o.WhenFull), o.QueueMessages > 0, o.QueueMessages, o.Retained, resultArea())
	}
	return at[resource](4), failed()
}

//go:wasmimport macula:plugin/pubsub@0.1.0 [method]subscription.id
func wasmSubscriptionID(self resource) uint32

func hostSubscriptionID(self resource) uint32 { return wasmSubscriptionID(self) }

//go:wasmimport macula:plugin/pubsub@0.1.0 [method]subscription.stats
func wasmSubscriptionStats(self resource, result unsafe.Pointer)

func hostSubscriptionStats(self resource) SubscriptionStats {
	wasmSubscriptionStats(self, resultArea())
	return SubscriptionStats{Delivered: at[uint64](0), Dropped: at[uint64](8), Queued: at[uint32](16)}
}

//go:wasmimport macula:plugin/pubsub@0.1.0 [method]subscription.unsubscribe
func wasmUnsubscribe(self resource)

func hostUnsubscribe(self resource) { wasmUnsubscribe(self) }
