//go:build !wasip1

package maculatest

import (
	"encoding/json"
	"fmt"

	"macula.host/macula"
)

// Published is a message as the plugin published it.
type Published struct {
	Topic   string
	Payload []byte
	// Media type; empty when not given.
	ContentType string
	Delivery    macula.Delivery
	// Whether it was to become the topic's last value.
	Retain   bool
	Metadata macula.Metadata
}

// Text gives the payload as text.
func (p Published) Text() string { return string(p.Payload) }

// JSON reads the payload into value.
func (p Published) JSON(value any) error {
	if err := json.Unmarshal(p.Payload, value); err != nil {
		return fmt.Errorf("the payload published to %s is not as expected: %w: %s", p.Topic, err, p.Payload)
	}
	return nil
}

// Logged is an entry of the plugin's log.
type Logged struct {
	Level           macula.Level
	Target, Message string
	Fields          []macula.Field
}

// Field gives a field's value by its name; empty when there is none.
func (l Logged) Field(name string) string {
	for _, field := range l.Fields {
		if field.Name == name {
			return field.Value
		}
	}
	return ""
}

// TakePublished takes what the plugin published since last asked, in order.
func (h *Host) TakePublished() []Published { return take(h.state, &h.state.published) }

// TakeCalled takes the calls the plugin made since last asked, in order; not those that were denied.
func (h *Host) TakeCalled() []macula.Request { return take(h.state, &h.state.called) }

// TakeLogged takes what the plugin logged since last asked, in order.
func (h *Host) TakeLogged() []Logged { return take(h.state, &h.state.logged) }

func take[T any](s *state, from *[]T) []T {
	defer s.lock()()
	taken := *from
	*from = nil
	return taken
}

// Subscriptions gives the patterns the plugin is subscribed to.
func (h *Host) Subscriptions() []string { return h.state.patterns() }

// Offers gives the procedures the plugin offers.
func (h *Host) Offers() []string { return h.state.procedures() }

// Stored reads a key of a bucket of the plugin.
func (h *Host) Stored(bucket, key string) (value []byte, ok bool) {
	defer h.state.lock()()
	opened := h.state.buckets[bucket]
	if opened == nil {
		return nil, false
	}
	entry := opened.get(key, h.state.nowMs)
	if entry == nil {
		return nil, false
	}
	return entry.Value, true
}

// IsPinned tells whether the plugin keeps content from being evicted.
func (h *Host) IsPinned(mcid string) bool {
	defer h.state.lock()()
	return h.state.content.pinned[mcid]
}
