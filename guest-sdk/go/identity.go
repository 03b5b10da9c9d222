package macula

import "unicode/utf8"

// PluginName is the plugin's name, from its manifest.
func PluginName() string { return hostPluginName() }

// PluginVersion is the plugin's version, from its manifest; empty when it has none.
func PluginVersion() string { return hostPluginVersion() }

// Component is the content id of the running component.
func Component() string { return hostComponent() }

// Principal is the did:key that this plugin's messages and calls carry.
func Principal() string { return hostPrincipal() }

// Node is the did:key of the host it runs on.
func Node() string { return hostNode() }

// Realm is the realm's name, for example "local.dev".
func Realm() string { return hostRealm() }

// Shard is instance Index, from 0, of Count. Topics are divided among instances; each has state and timers of its own.
type Shard struct{ Index, Count uint32 }

// Instance says which instance this is.
func Instance() Shard { return hostInstance() }

// Can tells whether the plugin holds a right now: a command such as "/mesh/publish", and a topic, pattern, procedure or
// content id. The answer may change: [OnRightsChange].
func Can(command, target string) bool {
	return utf8.ValidString(command) && utf8.ValidString(target) && hostCan(command, target)
}

// TraceContext is a distributed trace: W3C Trace Context.
type TraceContext struct {
	// 55 characters: 00-<trace id>-<span id>-<flags>.
	Traceparent string
	// At most 512 bytes; mostly empty.
	Tracestate string
}

// Trace is the trace of what is being handled; false when it is not traced. Nothing is needed to keep a trace together:
// what a handler publishes, calls and logs continues it.
func Trace() (trace TraceContext, ok bool) { return hostTrace() }
