package macula

import "unsafe"

//go:wasmimport macula:plugin/kv@0.1.0 open
func wasmOpenBucket(name string, result unsafe.Pointer)

func hostOpenBucket(name string) (resource, error) {
	before := incoming.mark()
	defer incoming.release(before)
	wasmOpenBucket(name, resultArea())
	return at[resource](4), failed()
}

//go:wasmimport macula:plugin/kv@0.1.0 [method]bucket.replicated
func wasmBucketReplicated(self resource) bool

func hostBucketReplicated(self resource) bool { return wasmBucketReplicated(self) }

//go:wasmimport macula:plugin/kv@0.1.0 [method]bucket.get
func wasmBucketGet(self resource, key string, result unsafe.Pointer)

func hostBucketGet(self resource, key string) (*Entry, error) {
	before := incoming.mark()
	defer incoming.release(before)
	wasmBucketGet(self, key, resultArea())
	if err := failedWide(); err != nil {
		return nil, err
	}
	if !at[bool](8) {
		return nil, nil
	}
	return &Entry{Value: at[list](16).bytes(), Version: at[uint64](24)}, nil
}

//go:wasmimport macula:plugin/kv@0.1.0 [method]bucket.set
func wasmBucketSet(self resource, key, value string, expires bool, ttlMs uint32, result unsafe.Pointer)

func hostBucketSet(self resource, key string, value []byte, ttlMs *uint32) error {
	before := incoming.mark()
	defer incoming.release(before)
	if ttlMs == nil {
		wasmBucketSet(self, key, text(value), false, 0, resultArea())
	} else {
		wasmBucketSet(self, key, text(value), true, *ttlMs, resultArea())
	}
	return failed()
}

//go:wasmimport macula:plugin/kv@0.1.0 [method]bucket.delete
func wasmBucketDelete(self resource, key string, result unsafe.Pointer)

func hostBucketDelete(self resource, key string) error {
	before := incoming.mark()
	defer incoming.release(before)
	wasmBucketDelete(self, key, resultArea())
	return failed()
}

//go:wasmimport macula:plugin/kv@0.1.0 [method]bucket.swap
func wasmBucketSwap(self resource, key string, some bool, expected uint64, value string, result unsafe.Pointer)

func hostBucketSwap(self resource, key string, expected *uint64, value []byte) (uint64, error) {
	before := incoming.mark()
	defer incoming.release(before)
	if expected == nil {
		wasmBucketSwap(self, key, false, 0, text(value), resultArea())
	} else {
		wasmBucketSwap(self, key, true, *expected, text(value), resultArea())
	}
	if err := failedWide(); err != nil {
		return 0, err
	}
	return at[uint64](8), nil
}

//go:wasmimport macula:plugin/kv@0.1.0 [method]bucket.increment
func wasmBucketIncrement(self resource, key string, delta int32, result unsafe.Pointer)

func hostBucketIncrement(self resource, key string, delta int32) (int64, error) {
	before := incoming.mark()
	defer incoming.release(before)
	wasmBucketIncrement(self, key, delta, resultArea())
	if err := failedWide(); err != nil {
		return 0, err
	}
	return at[int64](8), nil
}

//go:wasmimport macula:plugin/kv@0.1.0 [method]bucket.keys
func wasmBucketKeys(self resource, prefix string, some bool, cursor string, limit uint32, result unsafe.Pointer)

func hostBucketKeys(self resource, prefix, cursor string, limit uint32) (keys []string, next string, err error) {
	before := incoming.mark()
	defer incoming.release(before)
	wasmBucketKeys(self, prefix, cursor != "", cursor, limit, resultArea())
	if err := failed(); err != nil {
		return nil, "", err
	}
	found := at[list](4)
	keys = make([]string, 0, found.length)
	for _, key := range unsafe.Slice((*list)(found.pointer()), found.length) {
		keys = append(keys, key.text())
	}
	if at[bool](12) {
		next = at[list](16).text()
	}
	return keys, next, nil
}
