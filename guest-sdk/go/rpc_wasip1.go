package macula

import (
	"runtime"
	"time"
	"unsafe"
)

//go:wasmimport macula:plugin/rpc@0.1.0 call
func wasmCall(
	procedure, payload string,
	some bool, timeoutMs uint32, contentType, idempotencyKey string, metadata unsafe.Pointer, metadataLength uint32,
	result unsafe.Pointer,
)

// Cases of rpc.call-error.
const (
	callHandler = iota
	callNotRun
	callMaybeRun
)

func hostCall(procedure string, payload []byte, o *CallOptions) ([]byte, error) {
	before := incoming.mark()
	defer incoming.release(before)
	if o == nil {
		wasmCall(procedure, text(payload), false, 0, "", "", nil, 0, resultArea())
	} else {
		milliseconds := uint32(min(o.Timeout/time.Millisecond, 1<<32-1))
		pairs := pairsOf(o.Metadata)
		wasmCall(procedure, text(payload), true, milliseconds, o.ContentType, o.IdempotencyKey,
			unsafe.Pointer(unsafe.SliceData(pairs)), uint32(len(pairs)), resultArea())
		runtime.KeepAlive(o)
	}
	if !at[bool](0) {
		return at[list](4).bytes(), nil
	}
	switch at[uint8](4) {
	case callHandler:
		error := at[[3]list](8)
		return nil, &HandlerError{Code: error[0].text(), Message: error[1].text(), Data: error[2].bytes()}
	case callNotRun:
		error := at[hostError](8)
		return nil, &CallError{Outcome: ErrNotRun, Cause: error.lift()}
	default:
		error := at[hostError](8)
		return nil, &CallError{Outcome: ErrMaybeRun, Cause: error.lift()}
	}
}

//go:wasmimport macula:plugin/rpc@0.1.0 advertise
func wasmAdvertise(
	procedure string, some, limited bool, inFlightMax uint32, metadata unsafe.Pointer, metadataLength uint32,
	result unsafe.Pointer,
)

func hostAdvertise(procedure string, o *AdvertiseOptions) (resource, error) {
	before := incoming.mark()
	defer incoming.release(before)
	if o == nil {
		wasmAdvertise(procedure, false, false, 0, nil, 0, resultArea())
	} else {
		pairs := pairsOf(o.Metadata)
		wasmAdvertise(procedure, true, o.InFlightMax > 0, o.InFlightMax,
			unsafe.Pointer(unsafe.SliceData(pairs)), uint32(len(pairs)), resultArea())
		runtime.KeepAlive(o)
	}
	return at[resource](4), failed()
}

//go:wasmimport macula:plugin/rpc@0.1.0 [method]advertisement.withdraw
func wasmWithdraw(self resource)

func hostWithdraw(self resource) { wasmWithdraw(self) }
