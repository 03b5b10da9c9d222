//go:build !wasip1

package macula

import (
	"errors"
	"strings"
	"testing"
	"time"
)

func TestATopicHasSegments(t *testing.T) {
	msg := Message{Topic: "sensors.kitchen.temperature"}
	if got := strings.Join(msg.Segments(), "|"); got != "sensors|kitchen|temperature" {
		t.Error(got)
	}
	for index, expected := range []string{"sensors", "kitchen", "temperature", "", ""} {
		if got := msg.Segment(index); got != expected {
			t.Errorf("%d: %q, expected %q", index, got, expected)
		}
	}
}

func TestWhatCannotBeReadIsADecodeError(t *testing.T) {
	msg := Message{Payload: []byte{0xFF}}
	req := Request{Payload: []byte{0xFF}}
	var decode *DecodeError
	for _, row := range []struct {
		what string
		err  error
	}{
		{"payload", second(msg.Text())},
		{"argument", second(req.Text())},
		{"payload", msg.JSON(new(int))},
		{"argument", req.JSON(new(int))},
	} {
		if !errors.As(row.err, &decode) || decode.What != row.what {
			t.Errorf("%v, expected one about the %s", row.err, row.what)
		}
	}
}

func TestTimesAreInMilliseconds(t *testing.T) {
	msg, tick := Message{TimestampMs: 1_500}, Tick{DueMs: 2_500}
	if msg.Timestamp() != time.Unix(1, 500e6) || tick.Due() != time.Unix(2, 500e6) {
		t.Error(msg.Timestamp(), tick.Due())
	}
}
