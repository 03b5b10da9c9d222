//go:build !wasip1

package maculatest

import (
	"time"

	"macula.host/macula"
)

// instance is the host as one run of main sees it: the contract's functions on the shared state, and the handles that end
// with it. The other files named instance_* have the larger interfaces.
type instance struct {
	*state
	handles handles
}

var _ macula.TestHost = (*instance)(nil)

// Who is who in tests.
const (
	peer      = "did:key:z6MkfakePeer"
	principal = "did:key:z6MkfakePrincipal"
	node      = "did:key:z6MkfakeNode"
)

// handles are what an instance has open, by number.
type handles struct {
	last    int32
	offers  map[int32]string
	buckets map[int32]string
	writers map[int32][]byte
	blobs   map[int32][]byte
	fetches map[int32]macula.FetchState
}

// open gives what is opened a number.
func open[T any](h *handles, table *map[int32]T, what T) (handle int32) {
	if *table == nil {
		*table = make(map[int32]T)
	}
	h.last++
	(*table)[h.last] = what
	return h.last
}

func (i *instance) After(name string, delayMs uint32) error {
	defer i.lock()()
	if err := i.checkTimerHandler(); err != nil {
		return err
	}
	return i.timers.after(name, i.nowMs, delayMs, i.manifest.limits.timers)
}

func (i *instance) Every(name string, periodMs uint32) error {
	defer i.lock()()
	if err := i.checkTimerHandler(); err != nil {
		return err
	}
	return i.timers.every(name, i.nowMs, periodMs, i.manifest.limits.timers)
}

func (i *instance) checkTimerHandler() error {
	if i.abilities.timer {
		return nil
	}
	return invalid("a timer needs a timer handler")
}

func (i *instance) CancelTimer(name string) bool {
	defer i.lock()()
	return i.timers.cancel(name)
}

func (i *instance) Setting(key string) (string, bool) {
	defer i.lock()()
	text, ok := i.settings[key]
	return text, ok
}

func (i *instance) Settings() map[string]string {
	defer i.lock()()
	settings := make(map[string]string, len(i.settings))
	for key, text := range i.settings {
		settings[key] = text
	}
	return settings
}

func (i *instance) PluginName() string     { return i.manifest.name }
func (i *instance) PluginVersion() string  { return i.manifest.version }
func (i *instance) Component() string      { return contentID([]byte(i.manifest.name)) }
func (i *instance) Principal() string      { return principal }
func (i *instance) Node() string           { return node }
func (i *instance) Realm() string          { return "local.dev" }
func (i *instance) Instance() macula.Shard { return macula.Shard{Index: 0, Count: 1} }
func (i *instance) Now() time.Time         { return i.now() }

func (i *instance) Can(command, target string) bool {
	defer i.lock()()
	return isPattern(target) && i.rights.allow(command, target)
}

func (i *instance) Trace() (macula.TraceContext, bool) {
	defer i.lock()()
	if i.trace == nil {
		return macula.TraceContext{}, false
	}
	return *i.trace, true
}

func (i *instance) LogEnabled(level macula.Level) bool {
	defer i.lock()()
	return level >= i.logLevel
}

func (i *instance) Log(level macula.Level, target, message string, fields []macula.Field) {
	defer i.lock()()
	if level >= i.logLevel {
		i.logged = append(i.logged, Logged{level, target, message, append([]macula.Field(nil), fields...)})
	}
}
