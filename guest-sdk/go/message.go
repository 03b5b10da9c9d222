package macula

import (
	"encoding/json"
	"errors"
	"strings"
	"time"
	"unicode/utf8"
)

// Metadata are named values that travel with a message, a call or an offer: at most 16, 4,096 bytes together. Names: 1 to
// 64 characters of [a-z0-9-].
type Metadata map[string]string

// Message is a message as a handler sees it. (Publisher, Epoch, Seq) names it uniquely in its realm and stays the same
// when it is delivered again, so it is the key to deduplicate by. It belongs to the handler and may be kept.
type Message struct {
	// The topic it was published to.
	Topic string
	// At most 1 MiB.
	Payload []byte
	// Media type, for example "application/json"; empty when the publisher did not say.
	ContentType string
	// The did:key of who published it; verified by the host.
	Publisher string
	// Grows whenever the publisher starts anew; Seq then begins again.
	Epoch uint64
	// Grows with each message of the publisher within an epoch, over all its topics: gaps are normal.
	Seq uint64
	// When it was published, by the publisher's clock, in milliseconds since 1970-01-01 UTC.
	TimestampMs uint64
	// 1 at first delivery, then one more each time that it is delivered again: after a retry, or a trap of the
	// instance that had it in hand. What a host had taken is lost with the host's process, and not delivered again.
	Attempt uint32
	// A stored last value, sent because this subscription is new; not live.
	Retained bool
	// Which subscription it matched: [Subscription.ID], 0 for the manifest's.
	Subscription uint32
	// What the publisher added; mostly nil.
	Metadata Metadata
}

// JSON reads the payload into value. Its error rejects the message.
func (m *Message) JSON(value any) error { return decodeJSON("payload", m.Payload, value) }

// Text gives the payload as text. Its error, when that is no UTF-8, rejects the message.
func (m *Message) Text() (string, error) { return decodeText("payload", m.Payload) }

// Segments gives the topic's parts: "sensors.kitchen.temperature" has three.
func (m *Message) Segments() []string { return strings.Split(m.Topic, ".") }

// Segment gives one of the topic's parts, from 0; empty when there is none.
func (m *Message) Segment(index int) string {
	rest := m.Topic
	for ; index > 0; index-- {
		var found bool
		if _, rest, found = strings.Cut(rest, "."); !found {
			return ""
		}
	}
	segment, _, _ := strings.Cut(rest, ".")
	return segment
}

// Timestamp is when it was published, by the publisher's clock.
func (m *Message) Timestamp() time.Time { return timeOf(m.TimestampMs) }

// Request is a call as its handler sees it. The mesh hands a call to a handler at most once. It belongs to the handler
// and may be kept.
type Request struct {
	// The procedure called, as it was advertised.
	Procedure string
	// At most 1 MiB.
	Payload []byte
	// Media type; empty when the caller did not say.
	ContentType string
	// The did:key of who calls; verified by the host, which has already checked the right to call.
	Caller string
	// Time left until the caller gives up, measured when the handler was entered; the context has it as its deadline.
	TimeLeft time.Duration
	// The same for every try of what the caller means to happen once; empty when not given.
	IdempotencyKey string
	// What the caller added; mostly nil.
	Metadata Metadata
}

// JSON reads the arguments into value. Its error answers the call with the code "bad-arguments".
func (r *Request) JSON(value any) error { return decodeJSON("argument", r.Payload, value) }

// Text gives the arguments as text. Its error, when they are no UTF-8, answers the call with the code "bad-arguments".
func (r *Request) Text() (string, error) { return decodeText("argument", r.Payload) }

// Tick is a timer that fell due.
type Tick struct {
	// As given to [After] or [Every]; perhaps by an earlier version of the plugin.
	Name string
	// When it was due, in milliseconds since 1970-01-01 UTC.
	DueMs uint64
	// Earlier ticks of this timer that were left out because the instance was busy.
	Missed uint32
}

// Due is when it was due.
func (t *Tick) Due() time.Time { return timeOf(t.DueMs) }

// AnswerJSON gives a call's answer as JSON: return macula.AnswerJSON(value).
func AnswerJSON(value any) ([]byte, error) { return json.Marshal(value) }

func decodeJSON(what string, data []byte, value any) error {
	if err := json.Unmarshal(data, value); err != nil {
		return &DecodeError{What: what, Cause: err}
	}
	return nil
}

func decodeText(what string, data []byte) (string, error) {
	if !utf8.Valid(data) {
		return "", &DecodeError{What: what, Cause: errors.New("not UTF-8")}
	}
	return string(data), nil
}

func timeOf(milliseconds uint64) time.Time { return time.UnixMilli(int64(milliseconds)) }
