//go:build !wasip1

package macula

import "time"

func hostPublish(topic string, payload []byte, o *PublishOptions) (Receipt, error) {
	return hosted().Publish(topic, payload, o)
}

func hostRetained(topic string) (*Message, error) { return hosted().Retained(topic) }

func hostSubscribe(pattern string, o *SubscribeOptions) (resource, error) {
	handle, err := hosted().Subscribe(pattern, o)
	return resource(handle), err
}

func hostSubscriptionID(self resource) uint32 { return hosted().SubscriptionID(int32(self)) }
func hostUnsubscribe(self resource)           { hosted().Unsubscribe(int32(self)) }

func hostSubscriptionStats(self resource) SubscriptionStats {
	return hosted().SubscriptionStats(int32(self))
}

func hostCall(procedure string, payload []byte, o *CallOptions) ([]byte, error) {
	return hosted().Call(procedure, payload, o)
}

func hostAdvertise(procedure string, o *AdvertiseOptions) (resource, error) {
	handle, err := hosted().Advertise(procedure, o)
	return resource(handle), err
}

func hostWithdraw(self resource) { hosted().Withdraw(int32(self)) }

func hostPut(data []byte) (string, error) { return hosted().Put(data) }

func hostCreate() (resource, error) {
	writer, err := hosted().Create()
	return resource(writer), err
}

func hostWrite(self resource, piece []byte) error { return hosted().Write(int32(self), piece) }
func hostFinish(self resource) (string, error)    { return hosted().Finish(int32(self)) }
func hostDropWriter(self resource)                { hosted().DropWriter(int32(self)) }

func hostOpen(mcid string) (resource, error) {
	blob, err := hosted().Open(mcid)
	return resource(blob), err
}

func hostBlobSize(self resource) uint64 { return hosted().BlobSize(int32(self)) }
func hostDropBlob(self resource)        { hosted().DropBlob(int32(self)) }

func hostRead(self resource, offset uint64, length uint32) ([]byte, error) {
	return hosted().Read(int32(self), offset, length)
}

func hostFetchAll(mcid string) (resource, error) {
	fetch, err := hosted().FetchAll(mcid)
	return resource(fetch), err
}

func hostFetchState(self resource) FetchState { return hosted().FetchState(int32(self)) }
func hostCancelFetch(self resource)           { hosted().CancelFetch(int32(self)) }
func hostHas(mcid string) (bool, error)       { return hosted().Has(mcid) }
func hostPin(mcid string) error               { return hosted().Pin(mcid) }
func hostUnpin(mcid string) error             { return hosted().Unpin(mcid) }

func hostOpenBucket(name string) (resource, error) {
	bucket, err := hosted().OpenBucket(name)
	return resource(bucket), err
}

func hostBucketReplicated(self resource) bool { return hosted().BucketReplicated(int32(self)) }

func hostBucketGet(self resource, key string) (*Entry, error) {
	return hosted().BucketGet(int32(self), key)
}

func hostBucketSet(self resource, key string, value []byte, ttlMs *uint32) error {
	return hosted().BucketSet(int32(self), key, value, ttlMs)
}

func hostBucketDelete(self resource, key string) error {
	return hosted().BucketDelete(int32(self), key)
}

func hostBucketSwap(self resource, key string, expected *uint64, value []byte) (uint64, error) {
	return hosted().BucketSwap(int32(self), key, expected, value)
}

func hostBucketIncrement(self resource, key string, delta int32) (int64, error) {
	return hosted().BucketIncrement(int32(self), key, delta)
}

func hostBucketKeys(self resource, prefix, cursor string, limit uint32) ([]string, string, error) {
	return hosted().BucketKeys(int32(self), prefix, cursor, limit)
}

func hostAfter(name string, delayMs uint32) error  { return hosted().After(name, delayMs) }
func hostEvery(name string, periodMs uint32) error { return hosted().Every(name, periodMs) }
func hostCancelTimer(name string) bool             { return hosted().CancelTimer(name) }

func hostSetting(key string) (string, bool) { return hosted().Setting(key) }
func hostSettings() map[string]string       { return hosted().Settings() }
func hostPluginName() string                { return hosted().PluginName() }
func hostPluginVersion() string             { return hosted().PluginVersion() }
func hostComponent() string                 { return hosted().Component() }
func hostPrincipal() string                 { return hosted().Principal() }
func hostNode() string                      { return hosted().Node() }
func hostRealm() string                     { return hosted().Realm() }
func hostInstance() Shard                   { return hosted().Instance() }
func hostCan(command, target string) bool   { return hosted().Can(command, target) }
func hostTrace() (TraceContext, bool)       { return hosted().Trace() }

// What only logs, or asks for the time, can be tested without a host.

func hostLogEnabled(level Level) bool {
	host := current.Load()
	return host != nil && (*host).LogEnabled(level)
}

func hostLog(level Level, target, message string, fields []Field) {
	if host := current.Load(); host != nil {
		(*host).Log(level, target, message, fields)
	}
}

func hostNow() time.Time {
	if host := current.Load(); host != nil {
		return (*host).Now()
	}
	return time.Now()
}
