package macula

import (
	"cmp"
	"time"
)

// Bucket is small state that outlives the instance. Buckets belong to the plugin: nobody else sees them, new versions
// do. Keys: 1 to 512 bytes. Values: at most 1 MiB. Every method may fail with ErrUnavailable (storage), those that write
// with ErrQuotaExceeded.
type Bucket struct{ handle resource }

// Entry is a value and its version, which [Bucket.Swap] compares.
type Entry struct {
	Value []byte
	// Changes with each write of this key; compare for equality only.
	Version uint64
}

// OpenBucket opens a bucket that the manifest declares. Errors: ErrDenied (it does not), ErrUnavailable.
func OpenBucket(name string) (*Bucket, error) {
	if err := checkName("bucket", name); err != nil {
		return nil, err
	}
	handle, err := hostOpenBucket(name)
	if err != nil {
		return nil, err
	}
	return &Bucket{handle}, nil
}

// Replicated tells whether other hosts write to it too. Then the last write wins, reads may be stale, and Swap is refused.
func (b *Bucket) Replicated() bool { return hostBucketReplicated(b.handle) }

// Get reads a key; nil when it is not set or has expired.
func (b *Bucket) Get(key string) (*Entry, error) {
	if err := checkName("key", key); err != nil {
		return nil, err
	}
	return hostBucketGet(b.handle, key)
}

// Set writes a key. Errors: ErrInvalid (key), ErrTooLarge.
func (b *Bucket) Set(key string, value []byte) error {
	if err := checkName("key", key); err != nil {
		return err
	}
	return hostBucketSet(b.handle, key, value, nil)
}

// SetFor writes a key that expires ttl after this write. Errors: as [Bucket.Set].
func (b *Bucket) SetFor(ttl time.Duration, key string, value []byte) error {
	milliseconds, err := millisecondsOf("ttl", ttl)
	if err := cmp.Or(err, checkName("key", key)); err != nil {
		return err
	}
	return hostBucketSet(b.handle, key, value, &milliseconds)
}

// Delete removes a key; removing what is not there does nothing.
func (b *Bucket) Delete(key string) error {
	if err := checkName("key", key); err != nil {
		return err
	}
	return hostBucketDelete(b.handle, key)
}

// Swap writes a key only if it still is as expected (nil: only if it is not set), and gives the new version.
//
// Errors: ErrConflict; ErrInvalid (key, or the bucket is replicated); ErrTooLarge.
func (b *Bucket) Swap(key string, expected *Entry, value []byte) (version uint64, err error) {
	if err := checkName("key", key); err != nil {
		return 0, err
	}
	var before *uint64
	if expected != nil {
		before = &expected.Version
	}
	return hostBucketSwap(b.handle, key, before, value)
}

// Increment adds to a counter and gives its sum as known here; an unset key counts from 0. Counters merge without loss in
// replicated buckets. A counter is no value: Get does not see it, Set on it is ErrConflict.
//
// Errors: ErrConflict (the key holds a value), ErrInvalid (key, or overflow: then it is unchanged).
func (b *Bucket) Increment(key string, delta int32) (sum int64, err error) {
	if err := checkName("key", key); err != nil {
		return 0, err
	}
	return hostBucketIncrement(b.handle, key, delta)
}

// Keys lists up to limit keys (1 to 1,000) that begin with prefix, in byte order, from a cursor on: first "", then next,
// until that is "".
//
// Errors: ErrInvalid (limit, or a cursor of another prefix).
func (b *Bucket) Keys(prefix, cursor string, limit uint32) (keys []string, next string, err error) {
	if err := cmp.Or(checkName("prefix", prefix), checkName("cursor", cursor)); err != nil {
		return nil, "", err
	}
	return hostBucketKeys(b.handle, prefix, cursor, limit)
}
