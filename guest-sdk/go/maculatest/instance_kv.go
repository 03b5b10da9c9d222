//go:build !wasip1

package maculatest

import "macula.host/macula"

// OpenBucket opens every bucket: a manifest cannot declare them yet.
func (i *instance) OpenBucket(name string) (handle int32, err error) {
	defer i.lock()()
	if i.buckets[name] == nil {
		i.buckets[name] = newBucket()
	}
	return open(&i.handles, &i.handles.buckets, name), nil
}

func (i *instance) bucketOf(handle int32) *bucket { return i.buckets[i.handles.buckets[handle]] }

func (i *instance) BucketReplicated(int32) bool { return false }

func (i *instance) BucketGet(handle int32, key string) (*macula.Entry, error) {
	defer i.lock()()
	return i.bucketOf(handle).get(key, i.nowMs), nil
}

func (i *instance) BucketSet(handle int32, key string, value []byte, ttlMs *uint32) error {
	defer i.lock()()
	var expiresMs uint64
	if ttlMs != nil {
		expiresMs = i.nowMs + uint64(*ttlMs)
	}
	_, err := i.bucketOf(handle).set(key, value, expiresMs)
	return err
}

func (i *instance) BucketDelete(handle int32, key string) error {
	defer i.lock()()
	delete(i.bucketOf(handle).slots, key)
	return nil
}

func (i *instance) BucketSwap(handle int32, key string, expected *uint64, value []byte) (version uint64, err error) {
	defer i.lock()()
	return i.bucketOf(handle).swap(key, expected, value, i.nowMs)
}

func (i *instance) BucketIncrement(handle int32, key string, delta int32) (sum int64, err error) {
	defer i.lock()()
	return i.bucketOf(handle).increment(key, delta, i.nowMs)
}

func (i *instance) BucketKeys(handle int32, prefix, cursor string, limit uint32) (keys []string, next string, err error) {
	defer i.lock()()
	return i.bucketOf(handle).keys(prefix, cursor, limit, i.nowMs)
}
