//go:build !wasip1

package maculatest

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"runtime"
	"slices"
	"testing"
	"time"

	"macula.host/macula"
)

func started(t *testing.T, options ...Option) *Host {
	t.Helper()
	return Start(t, everything, append([]Option{ManifestText(everythingsManifest)}, options...)...)
}

// seen gives what the plugin was told, from some entry on.
func seen(t *testing.T, host *Host, from int) []string {
	t.Helper()
	var all []string
	if err := host.CallJSON("every.seen", nil, &all); err != nil {
		t.Fatal(err)
	}
	return all[from:]
}

func equal(t *testing.T, got []string, expected ...string) {
	t.Helper()
	if !slices.Equal(got, expected) {
		t.Errorf("%q, expected %q", got, expected)
	}
}

func acked(t *testing.T, host *Host, texts ...string) {
	t.Helper()
	for _, text := range texts {
		if got := host.Deliver("in.a", text); got.Kind != macula.DispositionAck {
			t.Fatalf("%s: %s", text, got)
		}
	}
}

// failing runs a test that has to fail, and gives its text.
func failing(t *testing.T, test func(testing.TB)) string {
	t.Helper()
	recorder := &recorder{TB: t}
	done := make(chan struct{})
	go func() {
		defer close(done)
		test(recorder)
	}()
	<-done
	return recorder.text
}

// recorder is a test that keeps why it failed.
type recorder struct {
	testing.TB
	text string
}

func (r *recorder) Fatal(arguments ...any) { r.Fatalf("%s", fmt.Sprint(arguments...)) }

func (r *recorder) Fatalf(format string, arguments ...any) {
	r.text = fmt.Sprintf(format, arguments...)
	runtime.Goexit()
}

func TestAStartOpensWhatManifestAndMainAskFor(t *testing.T) {
	host := started(t)
	equal(t, seen(t, host, 0), "start 0 fine")
	equal(t, host.Subscriptions(), "in.**", "topic.*")
	equal(t, host.Offers(), "every.seen", "every.number")
	equal(t, host.Timers(), "beat")
}

func TestAStartThatFailsIsAnError(t *testing.T) {
	manifest := ManifestText(everythingsManifest)
	host, err := TryStart(t, everything, manifest, Config("fail", "yes"))
	if host != nil || !errors.Is(err, macula.ErrUnavailable) || err.Error() != "unavailable: the moon" {
		t.Error(err)
	}
	_, err = TryStart(t, everything, manifest, Deny("/mesh/subscribe", "topic.**"))
	if err == nil || err.Error() != "denied: /mesh/subscribe topic.*" {
		t.Error(err)
	}
	text := failing(t, func(t testing.TB) { Start(t, everything, manifest, Config("fail", "yes")) })
	equal(t, []string{text}, "the plugin does not start: unavailable: the moon")
}

func TestWhatHasNoHandlerIsRefused(t *testing.T) {
	for text, expected := range map[string]string{
		"subscribe = ['a']\n[[subscriptions]]\npattern = 'a'": "macula.toml has [[subscriptions]], but main calls neither Handle nor HandleTopic",
		"advertise = ['a']\n[[procedures]]\nprocedure = 'a'":  "macula.toml has [[procedures]], but main calls neither HandleCall nor HandleProcedure",
	} {
		if _, err := TryStart(t, func() {}, ManifestText(text)); err == nil || err.Error() != expected {
			t.Errorf("%v, expected %s", err, expected)
		}
	}
	for text, main := range map[string]func(context.Context) error{
		"invalid: a subscription needs a message handler": func(ctx context.Context) error { _, err := macula.Subscribe(ctx, "a"); return err },
		"invalid: an offer needs a call handler":          func(ctx context.Context) error { _, err := macula.Advertise(ctx, "a"); return err },
		"invalid: a timer needs a timer handler":          func(context.Context) error { return macula.After("a", 0) },
	} {
		start := func(ctx context.Context, _ macula.StartReason) error { return main(ctx) }
		_, err := TryStart(t, func() { macula.OnStart(start) }, ManifestText("subscribe = ['a']\nadvertise = ['a']"))
		if err == nil || err.Error() != text {
			t.Errorf("%v, expected %s", err, text)
		}
	}
}

func TestTheManifestIsTheFoldersOwn(t *testing.T) {
	t.Chdir(t.TempDir())
	_, err := TryStart(t, func() {})
	if err == nil || err.Error() != "there is no macula.toml in this folder; maculatest.ManifestText gives a manifest as text" {
		t.Error(err)
	}
}

func TestMessagesReachTheHandlerBySubscription(t *testing.T) {
	host := started(t)
	acked(t, host, "may")
	if got := host.Deliver("topic.x", "nothing"); got.Kind != macula.DispositionAck {
		t.Error(got)
	}
	again := macula.Message{Topic: "in.a.b", Payload: []byte("wait"), Attempt: 2}
	got := host.DeliverMessage(again)
	if got.Kind != macula.DispositionRetry || got.Delay == nil || *got.Delay != 2*time.Second {
		t.Error(got)
	}
	equal(t, seen(t, host, 1), "in.a 1#0", "true", "topic.x by topic", "in.a.b 2#0")
	if got := host.Deliver("in.a", []byte{0xFF}); got.String() != "reject: payload: not UTF-8" {
		t.Error(got)
	}
}

func TestAMessageIsCompletedByTheHost(t *testing.T) {
	var got []macula.Message
	main := func() {
		macula.Handle(func(_ context.Context, msg *macula.Message) error {
			got = append(got, *msg)
			msg.Payload[0] = '!'
			return nil
		})
	}
	host := Start(t, main, ManifestText("subscribe = ['**']\n[[subscriptions]]\npattern = '**'\n[[subscriptions]]\npattern = 'a'"))
	host.DeliverMessage(macula.Message{Topic: "a", Payload: []byte("x"), Metadata: macula.Metadata{"k": "v"}})
	host.Deliver("b", "y")
	if len(got) != 3 || got[0].Seq != 1 || got[1].Seq != 1 || got[2].Seq != 2 {
		t.Fatalf("once for each subscription: %+v", got)
	}
	expected := macula.Message{
		Topic: "a", Payload: []byte("!"), Publisher: "did:key:z6MkfakePeer", Epoch: 1, Seq: 1,
		TimestampMs: 1_767_225_600_000, Attempt: 1, Metadata: macula.Metadata{"k": "v"},
	}
	if !reflect.DeepEqual(got[1], expected) {
		t.Errorf("%+v, expected %+v", got[1], expected)
	}
}

func TestATestCannotDoWhatProductionWouldNot(t *testing.T) {
	for expected, test := range map[string]func(*Host){
		`the plugin is not subscribed to elsewhere, only to ["in.**" "topic.*"]`: func(h *Host) { h.Deliver("elsewhere", "") },
		`"a b" is not a topic`:                                            func(h *Host) { h.Deliver("a b", "") },
		`a payload is a string or []byte, not float64`:                    func(h *Host) { h.Deliver("in.a", 1.5) },
		`the plugin does not offer x, only ["every.seen" "every.number"]`: func(h *Host) { h.Call("x", nil) },
		`the code "Bad Code": 1 to 64 characters of [a-z0-9-]`:            func(h *Host) { h.Call("every.number", "0") },
		`"publish" is not a command such as /mesh/publish`:                func(h *Host) { h.Allow("publish", "a") },
		`"a..b" is not a pattern`:                                         func(h *Host) { h.Deny("/mesh/publish", "a..b") },
		`"*" is not a topic`:                                              func(h *Host) { h.Retain("*", "") },
		`the plugin was stopped`:                                          func(h *Host) { h.Stop(); h.Deliver("in.a", "may") },
		`timer again is set to the same time again and again`:             func(h *Host) { forever(h.t).Advance(time.Second) },
		`a handler of this plugin runs: an instance does one thing at a time`: func(h *Host) {
			h.Answer("math.add", func(*macula.Request) ([]byte, error) { h.Health(); return nil, nil })
			h.Deliver("in.a", "call")
		},
	} {
		got := failing(t, func(t testing.TB) { test(Start(t, everything, ManifestText(everythingsManifest))) })
		if got != expected {
			t.Errorf("%q, expected %q", got, expected)
		}
	}
}

// forever is a plugin whose timer never rests.
func forever(t testing.TB) *Host {
	again := func(context.Context, *macula.Tick) error { return macula.After("again", 0) }
	return Start(t, func() {
		macula.HandleTimer(again)
		macula.OnStart(func(context.Context, macula.StartReason) error { return macula.After("again", 0) })
	}, ManifestText(""))
}

func TestCallsAreAnswered(t *testing.T) {
	host := started(t)
	if answer, err := host.Call("every.number", "2.5"); err != nil || string(answer) != "2.5" {
		t.Errorf("%s %v", answer, err)
	}
	_, err := host.Call("every.number", "two")
	var failure *macula.HandlerError
	if !errors.As(err, &failure) || failure.Code != "bad-arguments" {
		t.Error(err)
	}
	var number float64
	if err := host.CallJSON("every.number", 3, &number); err != nil || number != 3 {
		t.Error(number, err)
	}
}

func TestACallersPatienceIsTheDeadlineOfTheContext(t *testing.T) {
	var got macula.Request
	main := func() {
		macula.HandleCall(func(ctx context.Context, req *macula.Request) ([]byte, error) {
			got = *req
			return nil, macula.Publish(ctx, "a", nil)
		})
	}
	host := Start(t, main, ManifestText("publish = ['a']\nadvertise = ['p']\n[[procedures]]\nprocedure = 'p'"))
	_, err := host.CallRequest(macula.Request{Procedure: "p", TimeLeft: -1})
	if err == nil || err.Error() != "timeout: timeout" {
		t.Error(err)
	}
	if _, err := host.Call("p", nil); err != nil || got.TimeLeft != 5*time.Second || got.Caller != "did:key:z6MkfakePeer" {
		t.Error(got, err)
	}
}

func TestAPanicReachesTheTest(t *testing.T) {
	host := started(t)
	func() {
		defer func() { equal(t, []string{fmt.Sprint(recover())}, "as asked") }()
		host.Deliver("in.a", "panic")
	}()
	if err := host.Crash(); err != nil {
		t.Fatal(err)
	}
	acked(t, host, "may")
	equal(t, seen(t, host, 0), "start 1 fine", "in.a 1#0", "true")
}

func TestParallelTestsTakeTurns(t *testing.T) {
	for range 4 {
		t.Run("", func(t *testing.T) {
			t.Parallel()
			host := started(t)
			for range 50 {
				acked(t, host, "log", "goroutines")
			}
			if logged, published := host.TakeLogged(), host.TakePublished(); len(logged) != 100 || len(published) != 400 {
				t.Errorf("%d entries, %d messages", len(logged), len(published))
			}
		})
	}
}
