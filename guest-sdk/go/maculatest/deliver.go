//go:build !wasip1

package maculatest

import (
	"encoding/json"
	"slices"
	"time"

	"macula.host/macula"
)

// Deliver delivers a message to each subscription that matches its topic, and gives what became of it: the first that is
// not an ack. The payload is a string or []byte. The test fails when the plugin is not subscribed to the topic.
func (h *Host) Deliver(topic string, payload any) macula.Disposition {
	h.t.Helper()
	return h.DeliverMessage(macula.Message{Topic: topic, Payload: h.bytesOf(payload)})
}

// DeliverMessage delivers a message that has more than a topic and a payload. What is zero is filled in: some publisher,
// epoch 1, the next number, the virtual time, attempt 1; and always the subscription.
func (h *Host) DeliverMessage(msg macula.Message) macula.Disposition {
	h.t.Helper()
	if !isTopic(msg.Topic) {
		h.t.Fatalf("%q is not a topic", msg.Topic)
	}
	defer h.enter()()
	h.delivered++
	if msg.Seq == 0 {
		msg.Seq = h.delivered
	}
	subscriptions := h.state.countDelivery(&msg)
	if len(subscriptions) == 0 {
		h.t.Fatalf("the plugin is not subscribed to %s, only to %q", msg.Topic, h.Subscriptions())
	}
	var outcome macula.Disposition
	for _, subscription := range subscriptions {
		msg.Subscription = subscription
		disposition := h.plugin.Message(cloned(msg))
		if outcome.Kind == macula.DispositionAck {
			outcome = disposition
		}
	}
	return outcome
}

// countDelivery completes a message, and gives the subscriptions that it matches, after counting it.
func (s *state) countDelivery(msg *macula.Message) (subscriptions []uint32) {
	defer s.lock()()
	s.complete(msg)
	for _, known := range s.subscriptions {
		if covers(known.pattern, msg.Topic) {
			if msg.Attempt == 1 {
				known.stats.Delivered++
			}
			subscriptions = append(subscriptions, known.id)
		}
	}
	return subscriptions
}

// Call calls a procedure of the plugin; its error is a [*macula.HandlerError]. The payload is a string or []byte. The
// test fails when the plugin does not offer the procedure, or its answer is beyond what the contract allows.
func (h *Host) Call(procedure string, payload any) (answer []byte, err error) {
	h.t.Helper()
	return h.CallRequest(macula.Request{Procedure: procedure, Payload: h.bytesOf(payload)})
}

// CallJSON calls a procedure of the plugin with arguments as JSON, and reads its answer into answer unless that is nil.
// The test fails as in [Host.Call], and when the answer is not of the form.
func (h *Host) CallJSON(procedure string, arguments, answer any) error {
	h.t.Helper()
	payload, err := json.Marshal(arguments)
	if err != nil {
		h.t.Fatalf("the test's arguments: %v", err)
	}
	bytes, err := h.CallRequest(macula.Request{Procedure: procedure, Payload: payload, ContentType: "application/json"})
	if err != nil || answer == nil {
		return err
	}
	if err := json.Unmarshal(bytes, answer); err != nil {
		h.t.Fatalf("the answer is not as expected: %v: %s", err, bytes)
	}
	return nil
}

// How long callers wait in tests, when the test does not say.
const patience = 5 * time.Second

// CallRequest makes a call that has more than a procedure and a payload. What is zero is filled in: some caller, who
// waits 5 s.
func (h *Host) CallRequest(req macula.Request) (answer []byte, err error) {
	h.t.Helper()
	if offers := h.Offers(); !slices.Contains(offers, req.Procedure) {
		h.t.Fatalf("the plugin does not offer %s, only %q", req.Procedure, offers)
	}
	defer h.enter()()
	if req.Caller == "" {
		req.Caller = peer
	}
	if req.TimeLeft == 0 {
		req.TimeLeft = patience
	}
	answer, failure := h.plugin.Call(req)
	if failure != nil {
		h.checkFailure(failure)
		return nil, failure
	}
	if len(answer) > payloadBytesMax {
		h.t.Fatalf("an answer of %d bytes: at most 1 MiB", len(answer))
	}
	return answer, nil
}

const detailsBytesMax = 64 << 10

// checkFailure holds a handler's no against the contract.
func (h *Host) checkFailure(failure *macula.HandlerError) {
	h.t.Helper()
	if !isCode(failure.Code) {
		h.t.Fatalf("the code %q: 1 to 64 characters of [a-z0-9-]", failure.Code)
	}
	if len(failure.Data) > detailsBytesMax {
		h.t.Fatalf("details of %d bytes: at most 64 KiB", len(failure.Data))
	}
}
