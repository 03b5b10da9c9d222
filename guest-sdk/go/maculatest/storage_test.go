//go:build !wasip1

package maculatest

import (
	"context"
	"errors"
	"io"
	"math"
	"strings"
	"testing"
	"time"

	"macula.host/macula"
)

// within runs code as a plugin's start.
func within(t *testing.T, manifest string, run func(ctx context.Context)) *Host {
	t.Helper()
	return Start(t, func() {
		macula.OnStart(func(ctx context.Context, _ macula.StartReason) error {
			run(ctx)
			return nil
		})
	}, ManifestText(manifest))
}

func TestBucketsKeepWhatIsWritten(t *testing.T) {
	host := within(t, "", func(context.Context) {
		bucket, err := macula.OpenBucket("b")
		must(t, err)
		must(t, bucket.Set("k", []byte("1")))
		first, err := bucket.Get("k")
		must(t, err)
		_, err = bucket.Swap("k", first, []byte("2"))
		must(t, err)
		for _, stale := range []*macula.Entry{first, nil} {
			if _, err := bucket.Swap("k", stale, []byte("3")); !errors.Is(err, macula.ErrConflict) {
				t.Error(err)
			}
		}
		if _, err := bucket.Swap("new", nil, []byte("x")); err != nil {
			t.Error(err)
		}
		must(t, bucket.Delete("new"))
		must(t, bucket.Delete("new"))
		must(t, bucket.SetFor(5*time.Second, "soon", []byte("gone")))
		if bucket.Replicated() {
			t.Error("buckets are local")
		}
	})
	if value, ok := host.Stored("b", "k"); !ok || string(value) != "2" {
		t.Errorf("%s", value)
	}
	for _, key := range []string{"new", "nothing"} {
		if _, ok := host.Stored("b", key); ok {
			t.Error(key)
		}
	}
	if _, ok := host.Stored("other", "k"); ok {
		t.Error("another bucket")
	}
	host.Advance(4_999 * time.Millisecond)
	if _, ok := host.Stored("b", "soon"); !ok {
		t.Error("not yet")
	}
	host.Advance(time.Millisecond)
	if _, ok := host.Stored("b", "soon"); ok {
		t.Error("expired")
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestCountersAreNoValues(t *testing.T) {
	b := newBucket()
	for _, row := range []struct {
		delta int32
		sum   int64
	}{{2, 2}, {-3, -1}} {
		if sum, err := b.increment("n", row.delta, 0); err != nil || sum != row.sum {
			t.Error(sum, err)
		}
	}
	if b.get("n", 0) != nil {
		t.Error("get does not see a counter")
	}
	if _, err := b.set("n", nil, 0); textOf(err) != "conflict: n is a counter" {
		t.Error(err)
	}
	if _, err := b.set("v", nil, 10); err != nil {
		t.Error(err)
	}
	if _, err := b.increment("v", 1, 9); textOf(err) != "conflict: v holds a value" {
		t.Error(err)
	}
	if sum, err := b.increment("v", 1, 10); sum != 1 || err != nil {
		t.Error("an expired value is none:", sum, err)
	}
	for start, delta := range map[int64]int32{math.MaxInt64: 1, math.MinInt64: -1} {
		b.slots["n"] = slot{isCounter: true, sum: start}
		if _, err := b.increment("n", delta, 0); textOf(err) != "invalid: counter n would overflow" {
			t.Error(err)
		}
	}
}

func TestKeysComeInPages(t *testing.T) {
	b := newBucket()
	for _, key := range []string{"a.3", "a.1", "b", "a.2", "a"} {
		if _, err := b.set(key, nil, 0); err != nil {
			t.Fatal(err)
		}
	}
	var all []string
	cursor := ""
	for {
		keys, next, err := b.keys("a.", cursor, 2, 0)
		must(t, err)
		all = append(all, keys...)
		if cursor = next; cursor == "" {
			break
		}
	}
	equal(t, all, "a.1", "a.2", "a.3")
	for _, row := range []struct {
		cursor, expected string
		limit            uint32
	}{
		{"", "invalid: limit 0: 1 to 1,000", 0},
		{"", "invalid: limit 1001: 1 to 1,000", 1_001},
		{"b", `invalid: the cursor is not of prefix "a."`, 1},
	} {
		if _, _, err := b.keys("a.", row.cursor, row.limit, 0); textOf(err) != row.expected {
			t.Errorf("%v, expected %s", err, row.expected)
		}
	}
}

func TestKeysAndValuesAreBounded(t *testing.T) {
	b := newBucket()
	for _, key := range []string{"", strings.Repeat("k", 513)} {
		if _, err := b.set(key, nil, 0); !errors.Is(err, macula.ErrInvalid) {
			t.Error(err)
		}
		if _, err := b.increment(key, 1, 0); !errors.Is(err, macula.ErrInvalid) {
			t.Error(err)
		}
	}
	if _, err := b.set("k", make([]byte, valueBytesMax+1), 0); !errors.Is(err, macula.ErrTooLarge) {
		t.Error(err)
	}
}

func TestContentIsReadAsItWasWritten(t *testing.T) {
	var mcid string
	host := within(t, "", func(ctx context.Context) {
		writer, err := macula.Create(ctx)
		must(t, err)
		text := strings.Repeat("macula ", 300_000)
		written, err := io.WriteString(writer, text)
		if written != len(text) || err != nil {
			t.Error(written, err)
		}
		mcid, err = writer.Finish()
		must(t, err)
		if _, err := writer.Write(nil); !errors.Is(err, macula.ErrInvalid) {
			t.Error(err)
		}
		must(t, macula.Pin(mcid))
		blob, err := macula.Open(ctx, mcid)
		must(t, err)
		read, err := io.ReadAll(blob)
		if string(read) != text || err != nil || blob.Size() != int64(len(text)) {
			t.Error(len(read), err, blob.Size())
		}
		piece := make([]byte, 10)
		if read, err := blob.ReadAt(piece, int64(len(text))-4); read != 4 || err != io.EOF || string(piece[:read]) != "ula " {
			t.Error(read, err)
		}
		must(t, blob.Close())
		fetch, err := macula.FetchAll(ctx, mcid)
		must(t, err)
		if state := fetch.State(); !state.Done {
			t.Error(state)
		}
		if has, err := macula.Has(mcid); !has || err != nil {
			t.Error(has, err)
		}
	})
	if !host.IsPinned(mcid) {
		t.Error("pinned")
	}
}

func TestContentOfOthersNeedsTheRight(t *testing.T) {
	absent := "bafkr4i" + strings.Repeat("a", 52)
	for manifest, expected := range map[string]error{"": macula.ErrDenied, "fetch = ['**']": nil} {
		host := Start(t, func() {}, ManifestText(manifest))
		mcid := host.Content([]byte("hello"))
		guest := &instance{state: host.state}
		has, err := guest.Has(mcid)
		if err != nil || has != (expected == nil) {
			t.Error(has, err)
		}
		_, err = guest.Open(mcid)
		if !errors.Is(err, expected) {
			t.Errorf("%v, expected %v", err, expected)
		}
		if expected == nil {
			host.Deny("/mesh/fetch", "**")
			if _, err := guest.Open(mcid); err != nil {
				t.Errorf("what was fetched is the plugin's own: %v", err)
			}
			host.Allow("/mesh/fetch", "**")
			if _, err := guest.Open(absent); !errors.Is(err, macula.ErrNotFound) {
				t.Error(err)
			}
			fetch, err := guest.FetchAll(absent)
			if state := guest.FetchState(fetch); err != nil || !errors.Is(state.Err, macula.ErrNotFound) {
				t.Error(state, err)
			}
		}
		for name, err := range map[string]error{"pin": guest.Pin("x"), "unpin": guest.Unpin("x")} {
			if textOf(err) != `invalid: "x" is not a content id` {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}

func TestContentLeftOpenIsFound(t *testing.T) {
	guest := &instance{state: started(t).state}
	mcid, err := guest.Put([]byte("x"))
	must(t, err)
	for range blobsMax {
		_, err := guest.Open(mcid)
		must(t, err)
	}
	if _, err := guest.Open(mcid); textOf(err) != "quota exceeded: content: 64 are open; drop some" {
		t.Error(err)
	}
	for range writersMax {
		_, err := guest.Create()
		must(t, err)
	}
	if _, err := guest.Create(); !errors.Is(err, macula.ErrQuotaExceeded) {
		t.Error(err)
	}
}

// The expected id was made by another implementation of SHA-256 and base32.
func TestContentIDsAreReal(t *testing.T) {
	if got := contentID([]byte("hello world")); got != "bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e" {
		t.Error(got)
	}
	if err := checkContentID(contentID(nil)); err != nil {
		t.Error(err)
	}
}
