//go:build !wasip1

package macula

import (
	"context"
	"log"
	"log/slog"
	"sync/atomic"
	"time"
)

// This file is not part of components. It is what package maculatest rests on: plugins use that, not this.

// TestHost is what stands in for the host in tests. Its methods are those of the contract: a handle is whatever the host
// gives for what was opened.
type TestHost interface {
	Publish(topic string, payload []byte, o *PublishOptions) (Receipt, error)
	Retained(topic string) (*Message, error)
	Subscribe(pattern string, o *SubscribeOptions) (handle int32, err error)
	SubscriptionID(handle int32) uint32
	SubscriptionStats(handle int32) SubscriptionStats
	Unsubscribe(handle int32)

	Call(procedure string, payload []byte, o *CallOptions) ([]byte, error)
	Advertise(procedure string, o *AdvertiseOptions) (handle int32, err error)
	Withdraw(handle int32)

	Put(data []byte) (mcid string, err error)
	Create() (writer int32, err error)
	Write(writer int32, piece []byte) error
	Finish(writer int32) (mcid string, err error)
	DropWriter(writer int32)
	Open(mcid string) (blob int32, err error)
	BlobSize(blob int32) uint64
	Read(blob int32, offset uint64, length uint32) ([]byte, error)
	DropBlob(blob int32)
	FetchAll(mcid string) (fetch int32, err error)
	FetchState(fetch int32) FetchState
	CancelFetch(fetch int32)
	Has(mcid string) (bool, error)
	Pin(mcid string) error
	Unpin(mcid string) error

	OpenBucket(name string) (bucket int32, err error)
	BucketReplicated(bucket int32) bool
	BucketGet(bucket int32, key string) (*Entry, error)
	BucketSet(bucket int32, key string, value []byte, ttlMs *uint32) error
	BucketDelete(bucket int32, key string) error
	BucketSwap(bucket int32, key string, expected *uint64, value []byte) (version uint64, err error)
	BucketIncrement(bucket int32, key string, delta int32) (sum int64, err error)
	BucketKeys(bucket int32, prefix, cursor string, limit uint32) (keys []string, next string, err error)

	After(name string, delayMs uint32) error
	Every(name string, periodMs uint32) error
	CancelTimer(name string) bool

	Setting(key string) (string, bool)
	Settings() map[string]string
	PluginName() string
	PluginVersion() string
	Component() string
	Principal() string
	Node() string
	Realm() string
	Instance() Shard
	Can(command, target string) bool
	Trace() (TraceContext, bool)
	LogEnabled(level Level) bool
	Log(level Level, target, message string, fields []Field)

	// Now is what package macula gives as the time.
	Now() time.Time
}

type resource int32

// current is the host of the handler that runs. Goroutines that a handler has left behind may look at any time.
var current atomic.Pointer[TestHost]

func hosted() TestHost {
	host := current.Load()
	if host == nil {
		panic("macula: outside a component there is a host in tests only; start the plugin with maculatest.Start")
	}
	return *host
}

// TestPlugin is one run of a plugin's main. Its methods run the handlers against its host, one at a time in the process.
type TestPlugin struct {
	handlers *handlers
	host     TestHost
	logger   *slog.Logger
}

var turn = make(chan struct{}, 1)

// NewTestPlugin runs a plugin's main.
func NewTestPlugin(main func(), host TestHost) *TestPlugin {
	plugin := &TestPlugin{&handlers{}, host, slog.New(LogHandler{})}
	plugin.run(func() {
		registered = plugin.handlers
		main()
	})
	return plugin
}

func (p *TestPlugin) run(handler func()) {
	turn <- struct{}{}
	before := current.Swap(&p.host)
	giveBack := p.takeLog()
	defer func() {
		giveBack()
		current.Store(before)
		<-turn
	}()
	handler()
}

// takeLog makes slog's default the plugin's, as it is in a component, and gives what undoes that. The test's own comes
// back with the output of package log, which slog has redirected.
func (p *TestPlugin) takeLog() (giveBack func()) {
	logger, writer, flags := slog.Default(), log.Writer(), log.Flags()
	slog.SetDefault(p.logger)
	return func() {
		p.logger = slog.Default()
		slog.SetDefault(logger)
		log.SetOutput(writer)
		log.SetFlags(flags)
	}
}

// TestFailure gives what a caller gets when a handler of calls gives err.
func TestFailure(err error) *HandlerError { return handlerErrorOf(err) }

// HandlesMessages tells whether main has registered a handler of messages.
func (p *TestPlugin) HandlesMessages() bool {
	return p.handlers.message != nil || p.handlers.byTopic
}

// HandlesCalls tells whether main has registered a handler of calls.
func (p *TestPlugin) HandlesCalls() bool {
	return p.handlers.call != nil || len(p.handlers.procedures) > 0
}

// HandlesTimers tells whether main has registered a handler of timers.
func (p *TestPlugin) HandlesTimers() bool {
	return p.handlers.timer != nil || len(p.handlers.timers) > 0
}

// FollowsConfig tells whether the component would have a config handler: then it is asked about changed settings, and else
// it is restarted.
func (p *TestPlugin) FollowsConfig() bool {
	return p.handlers.configChanged != nil || p.handlers.rightsChanged != nil
}

// Start runs the plugin's start.
func (p *TestPlugin) Start(reason StartReason) (err error) {
	p.run(func() {
		if begin := p.handlers.begin(context.Background(), reason); begin != nil {
			err = hostErrorOf(begin)
		}
	})
	return err
}

// Message hands a message over.
func (p *TestPlugin) Message(msg Message) (disposition Disposition) {
	p.run(func() { disposition = p.handlers.onMessage(context.Background(), &msg) })
	return disposition
}

// Call hands a call over.
func (p *TestPlugin) Call(req Request) (answer []byte, failure *HandlerError) {
	p.run(func() {
		answer, failure = p.handlers.onCall(handlerContext{time.Now().Add(req.TimeLeft)}, &req)
	})
	return answer, failure
}

// Tick hands a tick over.
func (p *TestPlugin) Tick(tick Tick) (err error) {
	p.run(func() {
		if failure := p.handlers.onTimer(context.Background(), &tick); failure != nil {
			err = hostErrorOf(failure)
		}
	})
	return err
}

// Health asks how the plugin is.
func (p *TestPlugin) Health() (health Health) {
	p.run(func() { health = p.handlers.onHealth() })
	return health
}

// Stop runs the plugin's end.
func (p *TestPlugin) Stop(reason StopReason, grace time.Duration) {
	p.run(func() { p.handlers.onStop(handlerContext{time.Now().Add(grace)}, reason) })
}

// ConfigChange tells of changed settings.
func (p *TestPlugin) ConfigChange(keys []string) (err error) {
	p.run(func() {
		if failure := p.handlers.onConfigChange(context.Background(), keys); failure != nil {
			err = hostErrorOf(failure)
		}
	})
	return err
}

// RightsChange tells of changed rights.
func (p *TestPlugin) RightsChange() {
	p.run(func() { p.handlers.onRightsChange(context.Background()) })
}

// Snapshot gives the plugin's state.
func (p *TestPlugin) Snapshot() (state []byte, err error) {
	p.run(func() {
		var failure error
		if state, failure = p.handlers.onSnapshot(); failure != nil {
			err = hostErrorOf(failure)
		}
	})
	return state, err
}

// Restore takes a state over.
func (p *TestPlugin) Restore(state []byte, version string) (err error) {
	p.run(func() {
		if failure := p.handlers.onRestore(state, version); failure != nil {
			err = hostErrorOf(failure)
		}
	})
	return err
}
