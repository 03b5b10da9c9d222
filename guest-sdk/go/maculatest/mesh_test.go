//go:build !wasip1

package maculatest

import (
	"encoding/json"
	"errors"
	"testing"
	"time"

	"macula.host/macula"
)

func TestWhatIsPublishedIsCheckedAndKept(t *testing.T) {
	host := started(t)
	acked(t, host, "publish", "retained")
	published := host.TakePublished()
	if len(published) != 1 {
		t.Fatal(published)
	}
	one := published[0]
	if one.Topic != "out.a" || one.Text() != "x" || !one.Retain || one.Delivery != macula.Acked || one.Metadata["k"] != "v" {
		t.Errorf("%+v", one)
	}
	if err := one.JSON(new(int)); err == nil {
		t.Error("x is no JSON")
	}
	equal(t, seen(t, host, 1), "in.a 1#0", "level 1", "in.a 1#0", "x true")
	for text, expected := range map[string]string{
		"publish elsewhere": "dead-letter: denied: /mesh/publish elsewhere",
		"bad meta":          `reject: invalid: metadata name "Bad": 1 to 64 characters of [a-z0-9-]`,
	} {
		if got := host.Deliver("in.a", text); got.String() != expected {
			t.Errorf("%s, expected %s", got, expected)
		}
	}
	if published := host.TakePublished(); len(published) != 0 {
		t.Error(published)
	}
}

func TestLastValuesOfOthersAreThere(t *testing.T) {
	host := started(t)
	host.Retain("out.a", "31.5")
	acked(t, host, "retained")
	host.Retain("out.a", "")
	acked(t, host, "retained")
	equal(t, seen(t, host, 1), "in.a 1#0", "31.5 true", "in.a 1#0")
}

func TestHandlersMayUseGoroutines(t *testing.T) {
	host := started(t)
	acked(t, host, "goroutines")
	if published := host.TakePublished(); len(published) != 8 {
		t.Error(published)
	}
}

func TestRightsCanChangeWhileThePluginRuns(t *testing.T) {
	host := started(t)
	host.Deny("/mesh/publish", "out.a")
	host.Deny("/mesh/subscribe", "topic.**")
	host.Deny("/mesh/advertise", "every.number")
	equal(t, host.Subscriptions(), "in.**")
	equal(t, host.Offers(), "every.seen")
	acked(t, host, "may")
	host.Allow("/mesh/publish", "**")
	acked(t, host, "may", "publish elsewhere")
	equal(t, seen(t, host, 1), "rights", "rights", "rights", "in.a 1#0", "false", "rights", "in.a 1#0", "true", "in.a 1#0")
	if got := host.TakePublished()[0].Topic; got != "elsewhere" {
		t.Error(got)
	}
}

func TestSubscriptionsAreCountedAndBounded(t *testing.T) {
	host := started(t)
	acked(t, host, "subscribe", "subscribe briefly")
	equal(t, host.Subscriptions(), "in.**", "topic.*", "more.*")
	if got := host.Deliver("in.a", "subscribe"); !isRetry(got) {
		t.Errorf("%s, expected a conflict", got)
	}
	equal(t, seen(t, host, 1), "in.a 1#0", "more.* 2", "in.a 1#0", "in.a 1#0")
	host.Allow("/mesh/subscribe", "**")
	guest := &instance{state: host.state}
	if _, err := guest.Subscribe("four", nil); err != nil {
		t.Error(err)
	}
	if _, err := guest.Subscribe("five", nil); err == nil || err.Error() != "quota exceeded: 4 subscriptions" {
		t.Error(err)
	}
	if _, err := guest.Subscribe("a.**.b", nil); err == nil || err.Error() != `invalid: "a.**.b" is not a pattern such as sensors.*.temperature` {
		t.Error(err)
	}
	host.Deliver("more.x", "nothing")
	if stats := guest.SubscriptionStats(2); stats.Delivered != 1 {
		t.Error(stats)
	}
}

func isRetry(disposition macula.Disposition) bool { return disposition.Kind == macula.DispositionRetry }

func TestOffersAreBounded(t *testing.T) {
	guest := &instance{state: started(t).state}
	for _, row := range []struct{ procedure, expected string }{
		{"every.a", ""},
		{"every.a", "conflict: already offers every.a"},
		{"every.b", ""},
		{"every.c", "quota exceeded: 4 offers"},
		{"other", "denied: /mesh/advertise other"},
		{"a b", `invalid: "a b" is not a topic: 1 to 16 segments of [A-Za-z0-9_-]{1,63} joined by dots`},
	} {
		handle, err := guest.Advertise(row.procedure, nil)
		if err == nil && row.procedure == "every.b" {
			guest.Withdraw(handle)
			_, err = guest.Advertise(row.procedure, nil)
		}
		if text := textOf(err); text != row.expected {
			t.Errorf("%s: %q, expected %q", row.procedure, text, row.expected)
		}
	}
}

func textOf(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func TestOutgoingCallsGetTheAnswersOfTheTest(t *testing.T) {
	host := started(t)
	if got := host.Deliver("in.a", "call"); !isRetry(got) {
		t.Errorf("nobody offers it so far: %s", got)
	}
	host.Answer("math.add", func(req *macula.Request) ([]byte, error) {
		var numbers [2]int
		if err := req.JSON(&numbers); err != nil {
			return nil, err
		}
		if len(host.Offers()) == 0 {
			return nil, errors.New("an answer may look at the host")
		}
		return json.Marshal(numbers[0] + numbers[1])
	})
	acked(t, host, "call")
	equal(t, seen(t, host, 1), "in.a 1#0", "sum 0", "in.a 1#0", "sum 3")
	called := host.TakeCalled()
	if len(called) != 2 || called[0].TimeLeft != time.Second || called[0].ContentType != "application/json" || called[0].IdempotencyKey != "k" {
		t.Errorf("%+v", called)
	}
	for _, row := range []struct {
		err      error
		answer   []byte
		expected string
	}{
		{&macula.CallError{Outcome: macula.ErrMaybeRun, Cause: &macula.Error{Kind: macula.ErrTimeout}}, nil, "dead-letter: the call may have run: timeout"},
		{&macula.HandlerError{Code: "own", Message: "no"}, nil, "reject: own: no"},
		{errors.New("odd"), nil, "reject: failed: odd"},
		{nil, make([]byte, payloadBytesMax+1), "dead-letter: the call may have run: too large: at most 1048576 bytes"},
		{nil, []byte("{"), "reject: answer: unexpected end of JSON input"},
	} {
		host.Answer("math.add", func(*macula.Request) ([]byte, error) { return row.answer, row.err })
		if got := host.Deliver("in.a", "call"); got.String() != row.expected {
			t.Errorf("%s, expected %s", got, row.expected)
		}
	}
	host.Deny("/mesh/call", "math.add")
	if got := host.Deliver("in.a", "call"); got.String() != "dead-letter: the call did not run: denied: /mesh/call math.add" {
		t.Error(got)
	}
	if got := host.Deliver("in.a", "call itself"); !isRetry(got) {
		t.Error(got)
	}
}

func TestAnswersCanBeThereFromTheStart(t *testing.T) {
	host := started(t, Answer("math.add", func(*macula.Request) ([]byte, error) { return []byte("4"), nil }))
	acked(t, host, "call")
	equal(t, seen(t, host, 2), "sum 4")
}

func TestArgumentsOfCallsAreChecked(t *testing.T) {
	guest := &instance{state: started(t).state}
	for expected, o := range map[string]macula.CallOptions{
		"timeout of 0 ms: 1 ms to 10 min":                  {},
		"timeout of 600001 ms: 1 ms to 10 min":             {Timeout: 600_001 * time.Millisecond},
		"idempotency key: at most 64 bytes":                {Timeout: 1e9, IdempotencyKey: string(make([]byte, 65))},
		"content type: at most 127 bytes":                  {Timeout: 1e9, ContentType: string(make([]byte, 128))},
		`metadata name "macula-x" belongs to the platform`: {Timeout: 1e9, Metadata: macula.Metadata{"macula-x": ""}},
		"metadata: at most 16 pairs, 4,096 bytes together": {Timeout: 1e9, Metadata: macula.Metadata{"x": string(make([]byte, 4_096))}},
	} {
		_, err := guest.Call("math.add", nil, &o)
		if got := textOf(err); got != "the call did not run: invalid: "+expected {
			t.Errorf("%q, expected %q", got, expected)
		}
	}
}
