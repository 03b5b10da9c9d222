//go:build !wasip1

package macula

import (
	"context"
	"errors"
	"reflect"
	"testing"
	"time"
)

func TestWhatMainRegistersDecidesWhatThePluginHandles(t *testing.T) {
	message := func(context.Context, *Message) error { return nil }
	call := func(context.Context, *Request) ([]byte, error) { return nil, nil }
	tick := func(context.Context, *Tick) error { return nil }
	for name, row := range map[string]struct {
		main     func()
		expected [4]bool
	}{
		"nothing":         {func() {}, [4]bool{}},
		"Handle":          {func() { Handle(message) }, [4]bool{true}},
		"HandleTopic":     {func() { HandleTopic("a", message) }, [4]bool{true}},
		"HandleCall":      {func() { HandleCall(call) }, [4]bool{false, true}},
		"HandleProcedure": {func() { HandleProcedure("a", call) }, [4]bool{false, true}},
		"HandleTimer":     {func() { HandleTimer(tick) }, [4]bool{false, false, true}},
		"HandleEvery":     {func() { HandleEvery("a", time.Second, tick) }, [4]bool{false, false, true}},
		"OnRightsChange":  {func() { OnRightsChange(func(context.Context) {}) }, [4]bool{false, false, false, true}},
		"OnConfigChange":  {func() { OnConfigChange(func(context.Context, []string) error { return nil }) }, [4]bool{false, false, false, true}},
	} {
		plugin := NewTestPlugin(row.main, &stub{})
		got := [4]bool{plugin.HandlesMessages(), plugin.HandlesCalls(), plugin.HandlesTimers(), plugin.FollowsConfig()}
		if got != row.expected {
			t.Errorf("%s: %v, expected %v", name, got, row.expected)
		}
	}
}

func TestWithoutHandlersTheHostIsToldSo(t *testing.T) {
	plugin := NewTestPlugin(func() {}, &stub{})
	if got := plugin.Message(Message{}); got.Kind != DispositionDeadLetter {
		t.Errorf("%s", got)
	}
	if _, failure := plugin.Call(Request{Procedure: "a"}); failure == nil || failure.Code != "unknown-procedure" {
		t.Errorf("%v", failure)
	}
	if err := plugin.Tick(Tick{Name: "a"}); !errors.Is(err, ErrInvalid) {
		t.Errorf("%v", err)
	}
	if err := plugin.ConfigChange([]string{"a"}); !errors.Is(err, ErrInvalid) {
		t.Errorf("%v", err)
	}
	if err := plugin.Start(StartFresh); err != nil {
		t.Error(err)
	}
	if health := plugin.Health(); health != Healthy() || health.String() != "healthy" {
		t.Errorf("%s", health)
	}
}

func TestEachRunOfMainHasStateOfItsOwn(t *testing.T) {
	main := func() {
		count := 0
		HandleCall(func(context.Context, *Request) ([]byte, error) {
			count++
			return AnswerJSON(count)
		})
	}
	first, second := NewTestPlugin(main, &stub{}), NewTestPlugin(main, &stub{})
	first.Call(Request{})
	first.Call(Request{})
	if answer, _ := second.Call(Request{}); string(answer) != "1" {
		t.Errorf("%s", answer)
	}
}

func TestAPanicLeavesNoHostBehind(t *testing.T) {
	plugin := NewTestPlugin(func() {
		Handle(func(context.Context, *Message) error { panic("as asked") })
		HandleCall(func(context.Context, *Request) ([]byte, error) { return []byte("still here"), nil })
	}, &stub{})
	func() {
		defer func() {
			if recover() == nil {
				t.Error("a panic reaches the test")
			}
		}()
		plugin.Message(Message{})
	}()
	if answer, _ := plugin.Call(Request{}); string(answer) != "still here" {
		t.Errorf("%s", answer)
	}
	if current.Load() != nil {
		t.Error("outside handlers there is no host")
	}
}

func TestErrorsOfStateGoToTheHostLikeOthers(t *testing.T) {
	plugin := NewTestPlugin(func() {
		KeepState(
			func() ([]byte, error) { return nil, errOdd },
			func([]byte, string) error { return &Error{Kind: ErrTimeout} },
		)
	}, &stub{})
	if _, err := plugin.Snapshot(); !errors.Is(err, ErrOther) {
		t.Errorf("%v", err)
	}
	if err := plugin.Restore(nil, "1"); !errors.Is(err, ErrTimeout) {
		t.Errorf("%v", err)
	}
}

func TestOptionsAreGathered(t *testing.T) {
	host := &stub{}
	within(host, func() {
		ctx := context.Background()
		Publish(ctx, "a", nil)
		PublishJSON(ctx, "a", 1, Latest, Retain(), Meta("x", "y"))
		PublishJSON(ctx, "a", 1, ContentType("text/plain"))
		PublishAcked(ctx, "a", nil)
	})
	expected := []PublishOptions{
		{},
		{Latest, true, "application/json", Metadata{"x": "y"}},
		{ContentType: "text/plain"},
		{Delivery: Acked},
	}
	if !reflect.DeepEqual(host.published, expected) {
		t.Errorf("%+v", host.published)
	}
}

func TestSpansAreRoundedUpAndBounded(t *testing.T) {
	for span, expected := range map[time.Duration]uint32{0: 0, 1: 1, time.Millisecond: 1, 1500 * time.Microsecond: 2} {
		if got, err := millisecondsOf("delay", span); err != nil || got != expected {
			t.Errorf("%s: %d, %v", span, got, err)
		}
	}
	for _, span := range []time.Duration{-1, 50 * 24 * time.Hour} {
		if _, err := millisecondsOf("delay", span); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v", span, err)
		}
	}
}
