//go:build !wasip1

package maculatest

import "macula.host/macula"

// Answer answers the plugin's calls of a procedure from now on. Without an answer a call fails with
// [macula.ErrNotRun]: nobody offers it. Without the right to call, it is denied whatever the answer.
func (h *Host) Answer(procedure string, answer AnswerFunc) {
	defer h.state.lock()()
	h.state.answers[procedure] = answer
}

// Retain stores a last value, as another publisher would: [macula.Retained] reads it. The payload is a string or []byte;
// an empty one forgets the last value.
func (h *Host) Retain(topic string, payload any) {
	h.t.Helper()
	if !isTopic(topic) {
		h.t.Fatalf("%q is not a topic", topic)
	}
	msg := macula.Message{Topic: topic, Payload: h.bytesOf(payload)}
	defer h.state.lock()()
	h.state.retain(msg)
}

// Content stores content of somebody else, and gives its id: the real one, by SHA-256.
func (h *Host) Content(data []byte) (mcid string) {
	defer h.state.lock()()
	return h.state.content.put(data)
}

// SetLogLevel keeps only entries of this level and above; without it, all.
func (h *Host) SetLogLevel(level macula.Level) {
	defer h.state.lock()()
	h.state.logLevel = level
}

// SetTrace sets the trace of what is handled from now on; nil for none.
func (h *Host) SetTrace(trace *macula.TraceContext) {
	defer h.state.lock()()
	h.state.trace = trace
}
