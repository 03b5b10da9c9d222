//go:build !wasip1

package maculatest

import (
	"bytes"
	"maps"
	"math"
	"slices"
	"strings"

	"macula.host/macula"
)

// bucket is a local key-value bucket in memory, in virtual time.
type bucket struct {
	slots  map[string]slot
	writes uint64
}

// slot is a value, or a counter.
type slot struct {
	isCounter bool
	sum       int64
	value     []byte
	version   uint64
	// 0 for never.
	expiresMs uint64
}

const (
	keyBytesMax   = 512
	valueBytesMax = 1 << 20
	keysMax       = 1_000
)

func newBucket() *bucket { return &bucket{slots: make(map[string]slot)} }

// live gives what is there and has not expired.
func (b *bucket) live(key string, nowMs uint64) (slot, bool) {
	found, ok := b.slots[key]
	return found, ok && (found.expiresMs == 0 || found.expiresMs > nowMs)
}

func (b *bucket) get(key string, nowMs uint64) *macula.Entry {
	found, ok := b.live(key, nowMs)
	if !ok || found.isCounter {
		return nil
	}
	return &macula.Entry{Value: bytes.Clone(found.value), Version: found.version}
}

func (b *bucket) set(key string, value []byte, expiresMs uint64) (version uint64, err error) {
	if err := checkKey(key); err != nil {
		return 0, err
	}
	if len(value) > valueBytesMax {
		return 0, tooLarge(valueBytesMax)
	}
	if b.slots[key].isCounter {
		return 0, fault(macula.ErrConflict, "%s is a counter", key)
	}
	b.writes++
	b.slots[key] = slot{value: bytes.Clone(value), version: b.writes, expiresMs: expiresMs}
	return b.writes, nil
}

func (b *bucket) swap(key string, expected *uint64, value []byte, nowMs uint64) (version uint64, err error) {
	found := b.get(key, nowMs)
	isExpected := found == nil && expected == nil || found != nil && expected != nil && found.Version == *expected
	if !isExpected {
		return 0, fault(macula.ErrConflict, "%s was written by somebody else", key)
	}
	return b.set(key, value, 0)
}

func (b *bucket) increment(key string, delta int32, nowMs uint64) (sum int64, err error) {
	if err := checkKey(key); err != nil {
		return 0, err
	}
	found, ok := b.live(key, nowMs)
	if ok && !found.isCounter {
		return 0, fault(macula.ErrConflict, "%s holds a value", key)
	}
	if !ok {
		found = slot{isCounter: true}
	}
	wide := int64(delta)
	if wide > 0 && found.sum > math.MaxInt64-wide || wide < 0 && found.sum < math.MinInt64-wide {
		return 0, invalid("counter %s would overflow", key)
	}
	found.sum += wide
	b.slots[key] = found
	return found.sum, nil
}

func (b *bucket) keys(prefix, cursor string, limit uint32, nowMs uint64) (keys []string, next string, err error) {
	if limit < 1 || limit > keysMax {
		return nil, "", invalid("limit %d: 1 to 1,000", limit)
	}
	if cursor != "" && !strings.HasPrefix(cursor, prefix) {
		return nil, "", invalid("the cursor is not of prefix %q", prefix)
	}
	for _, key := range slices.Sorted(maps.Keys(b.slots)) {
		if _, ok := b.live(key, nowMs); !ok || key < cursor || !strings.HasPrefix(key, prefix) {
			continue
		}
		if len(keys) == int(limit) {
			return keys, key, nil
		}
		keys = append(keys, key)
	}
	return keys, "", nil
}

func checkKey(key string) error {
	if 1 <= len(key) && len(key) <= keyBytesMax {
		return nil
	}
	return invalid("key of %d bytes: 1 to 512", len(key))
}
