//go:build !wasip1

package macula

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func TestAHandlersContextIsOverAtItsDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := handlerContext{time.Now().Add(time.Second)}
		if deadline, ok := ctx.Deadline(); !ok || time.Until(deadline) != time.Second {
			t.Error(deadline, ok)
		}
		if err := over(ctx); err != nil {
			t.Error(err)
		}
		time.Sleep(time.Second)
		if !errors.Is(ctx.Err(), context.DeadlineExceeded) || !errors.Is(over(ctx), ErrTimeout) {
			t.Error(ctx.Err(), over(ctx))
		}
	})
}

func TestAContextMadeOfAHandlersHasItsDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(handlerContext{time.Now().Add(time.Second)}, time.Minute)
		defer cancel()
		if err := over(ctx); err != nil {
			t.Error(err)
		}
		time.Sleep(time.Second)
		if err := over(ctx); !errors.Is(err, ErrTimeout) {
			t.Error(err)
		}
	})
}

func TestNothingIsAskedOfTheHostWhenTheContextIsOver(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	// The stub panics when it is asked for any of these.
	within(&stub{}, func() {
		calls := map[string]func() error{
			"publish":   func() error { return Publish(ctx, "a", nil) },
			"subscribe": func() error { _, err := Subscribe(ctx, "a"); return err },
			"retained":  func() error { _, err := Retained(ctx, "a"); return err },
			"call":      func() error { _, err := Call(ctx, "a", nil); return err },
			"advertise": func() error { _, err := Advertise(ctx, "a"); return err },
			"put":       func() error { _, err := Put(ctx, nil); return err },
			"create":    func() error { _, err := Create(ctx); return err },
			"open":      func() error { _, err := Open(ctx, "a"); return err },
			"fetch":     func() error { _, err := FetchAll(ctx, "a"); return err },
		}
		for name, call := range calls {
			if err := call(); !errors.Is(err, ErrCancelled) {
				t.Errorf("%s: %v", name, err)
			}
		}
	})
}

func TestACallAsksForNoMoreTimeThanIsLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		host := &stub{}
		within(host, func() {
			short := handlerContext{time.Now().Add(200 * time.Millisecond)}
			for _, ctx := range []context.Context{context.Background(), short} {
				for _, options := range [][]CallOption{nil, {Timeout(time.Second)}, {Timeout(time.Minute), ContentType("a/b")}} {
					if _, err := Call(ctx, "a", nil, options...); err != nil {
						t.Error(err)
					}
				}
			}
		})
		expected := []time.Duration{0, time.Second, time.Minute, 200 * time.Millisecond, 200 * time.Millisecond, 200 * time.Millisecond}
		for index, options := range host.called {
			if options.Timeout != expected[index] {
				t.Errorf("call %d: %s, expected %s", index, options.Timeout, expected[index])
			}
		}
	})
}
