//go:build !wasip1

package macula

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"
)

// A host ends an instance that hands over what is no UTF-8. The stub panics when it is asked anything: nothing of this may
// reach a host.
func TestWhatNamesSomethingIsUTF8(t *testing.T) {
	const bad = "bad\xff"
	ctx := context.Background()
	bucket := &Bucket{}
	failing := []struct {
		what string
		fail func() error
	}{
		{"topic", func() error { return Publish(ctx, bad, nil) }},
		{"content type", func() error { return Publish(ctx, "a", nil, ContentType(bad)) }},
		{"metadata", func() error { return Publish(ctx, "a", nil, Meta(bad, "")) }},
		{"metadata k", func() error { return PublishJSON(ctx, "a", 1, Meta("k", bad)) }},
		{"topic", func() error { _, err := Retained(ctx, bad); return err }},
		{"pattern", func() error { _, err := Subscribe(ctx, bad); return err }},
		{"procedure", func() error { _, err := Advertise(ctx, bad); return err }},
		{"metadata k", func() error { _, err := Advertise(ctx, "a", Meta("k", bad)); return err }},
		{"content id", func() error { _, err := Open(ctx, bad); return err }},
		{"content id", func() error { _, err := FetchAll(ctx, bad); return err }},
		{"content id", func() error { _, err := Has(bad); return err }},
		{"content id", func() error { return Pin(bad) }},
		{"content id", func() error { return Unpin(bad) }},
		{"bucket", func() error { _, err := OpenBucket(bad); return err }},
		{"key", func() error { _, err := bucket.Get(bad); return err }},
		{"key", func() error { return bucket.Set(bad, nil) }},
		{"key", func() error { return bucket.SetFor(time.Second, bad, nil) }},
		{"key", func() error { return bucket.Delete(bad) }},
		{"key", func() error { _, err := bucket.Swap(bad, nil, nil); return err }},
		{"key", func() error { _, err := bucket.Increment(bad, 1); return err }},
		{"prefix", func() error { _, _, err := bucket.Keys(bad, "", 1); return err }},
		{"cursor", func() error { _, _, err := bucket.Keys("", bad, 1); return err }},
		{"timer", func() error { return After(bad, time.Second) }},
		{"timer", func() error { return Every(bad, time.Second) }},
	}
	host := &stub{}
	within(host, func() {
		for _, row := range failing {
			err := row.fail()
			if !errors.Is(err, ErrInvalid) || !strings.HasPrefix(err.Error(), "invalid: "+row.what+` "`) {
				t.Errorf("%s: %v", row.what, err)
			}
		}
		if _, ok := Setting(bad); ok {
			t.Error("there is no such setting")
		}
		if CancelTimer(bad) {
			t.Error("there is no such timer")
		}
		if Can("/mesh/publish", bad) || Can(bad, "a") {
			t.Error("there is no such right")
		}
	})
	if len(host.published) > 0 {
		t.Errorf("%+v", host.published)
	}
}

// A call that cannot be made did not run, whatever is wrong with it.
func TestACallWithWhatIsNoUTF8DidNotRun(t *testing.T) {
	const bad = "\xff"
	host := &stub{}
	within(host, func() {
		for _, call := range []struct {
			procedure string
			option    CallOption
		}{{bad, Timeout(time.Second)}, {"a", ContentType(bad)}, {"a", IdempotencyKey(bad)}, {"a", Meta("k", bad)}} {
			_, err := Call(context.Background(), call.procedure, nil, call.option)
			if !errors.Is(err, ErrNotRun) || !errors.Is(err, ErrInvalid) {
				t.Errorf("%+q: %v", call, err)
			}
		}
	})
	if len(host.called) > 0 {
		t.Errorf("%+v", host.called)
	}
}
