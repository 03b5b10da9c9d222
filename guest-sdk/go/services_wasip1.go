package macula

import (
	"time"
	"unsafe"
)

// The small interfaces: timers, config, identity, trace and log; and the clock, which is WASI's.

func hostNow() time.Time { return time.Now() }

//go:wasmimport macula:plugin/timers@0.1.0 after
func wasmAfter(name string, delayMs uint32, result unsafe.Pointer)

func hostAfter(name string, delayMs uint32) error {
	before := incoming.mark()
	defer incoming.release(before)
	wasmAfter(name, delayMs, resultArea())
	return failed()
}

//go:wasmimport macula:plugin/timers@0.1.0 every
func wasmEvery(name string, periodMs uint32, result unsafe.Pointer)

func hostEvery(name string, periodMs uint32) error {
	before := incoming.mark()
	defer incoming.release(before)
	wasmEvery(name, periodMs, resultArea())
	return failed()
}

//go:wasmimport macula:plugin/timers@0.1.0 cancel
func wasmCancelTimer(name string) bool

func hostCancelTimer(name string) bool { return wasmCancelTimer(name) }

//go:wasmimport macula:plugin/config@0.1.0 get
func wasmSetting(key string, result unsafe.Pointer)

func hostSetting(key string) (string, bool) {
	before := incoming.mark()
	defer incoming.release(before)
	wasmSetting(key, resultArea())
	if !at[bool](0) {
		return "", false
	}
	return at[list](4).text(), true
}

//go:wasmimport macula:plugin/config@0.1.0 all
func wasmSettings(result unsafe.Pointer)

func hostSettings() map[string]string {
	before := incoming.mark()
	defer incoming.release(before)
	wasmSettings(resultArea())
	return at[list](0).metadata()
}

//go:wasmimport macula:plugin/identity@0.1.0 plugin-name
func wasmPluginName(result unsafe.Pointer)

//go:wasmimport macula:plugin/identity@0.1.0 plugin-version
func wasmPluginVersion(result unsafe.Pointer)

//go:wasmimport macula:plugin/identity@0.1.0 component
func wasmComponent(result unsafe.Pointer)

//go:wasmimport macula:plugin/identity@0.1.0 principal
func wasmPrincipal(result unsafe.Pointer)

//go:wasmimport macula:plugin/identity@0.1.0 node
func wasmNode(result unsafe.Pointer)

//go:wasmimport macula:plugin/identity@0.1.0 realm
func wasmRealm(result unsafe.Pointer)

func hostPluginName() string    { return told(wasmPluginName) }
func hostPluginVersion() string { return told(wasmPluginVersion) }
func hostComponent() string     { return told(wasmComponent) }
func hostPrincipal() string     { return told(wasmPrincipal) }
func hostNode() string          { return told(wasmNode) }
func hostRealm() string         { return told(wasmRealm) }

func told(ask func(result unsafe.Pointer)) string {
	before := incoming.mark()
	defer incoming.release(before)
	ask(resultArea())
	return at[list](0).text()
}

//go:wasmimport macula:plugin/identity@0.1.0 instance
func wasmInstance(result unsafe.Pointer)

func hostInstance() Shard {
	wasmInstance(resultArea())
	return at[Shard](0)
}

//go:wasmimport macula:plugin/identity@0.1.0 can
func wasmCan(command, target string) bool

func hostCan(command, target string) bool { return wasmCan(command, target) }

//go:wasmimport macula:plugin/trace@0.1.0 current
func wasmTrace(result unsafe.Pointer)

func hostTrace() (TraceContext, bool) {
	before := incoming.mark()
	defer incoming.release(before)
	wasmTrace(resultArea())
	if !at[bool](0) {
		return TraceContext{}, false
	}
	return TraceContext{Traceparent: at[list](4).text(), Tracestate: at[list](12).text()}, true
}

//go:wasmimport macula:plugin/log@0.1.0 enabled
func wasmLogEnabled(level uint32) bool

func hostLogEnabled(level Level) bool { return wasmLogEnabled(uint32(level)) }

//go:wasmimport macula:plugin/log@0.1.0 write
func wasmLog(level uint32, target, message string, fields unsafe.Pointer, fieldsLength uint32)

func hostLog(level Level, target, message string, fields []Field) {
	pairs := make([]pair, 0, len(fields))
	for _, field := range fields {
		pairs = append(pairs, pair{listOfText(field.Name), listOfText(field.Value)})
	}
	wasmLog(uint32(level), target, message, unsafe.Pointer(unsafe.SliceData(pairs)), uint32(len(pairs)))
}
