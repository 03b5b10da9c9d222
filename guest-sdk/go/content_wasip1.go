package macula

import "unsafe"

//go:wasmimport macula:plugin/content@0.1.0 put
func wasmPut(data string, result unsafe.Pointer)

func hostPut(data []byte) (string, error) {
	before := incoming.mark()
	defer incoming.release(before)
	wasmPut(text(data), resultArea())
	return resultText()
}

func resultText() (string, error) {
	if err := failed(); err != nil {
		return "", err
	}
	return at[list](4).text(), nil
}

//go:wasmimport macula:plugin/content@0.1.0 create
func wasmCreate(result unsafe.Pointer)

func hostCreate() (resource, error) {
	before := incoming.mark()
	defer incoming.release(before)
	wasmCreate(resultArea())
	return at[resource](4), failed()
}

//go:wasmimport macula:plugin/content@0.1.0 [method]writer.write
func wasmWrite(self resource, piece string, result unsafe.Pointer)

func hostWrite(self resource, piece []byte) error {
	before := incoming.mark()
	defer incoming.release(before)
	wasmWrite(self, text(piece), resultArea())
	return failed()
}

//go:wasmimport macula:plugin/content@0.1.0 [static]writer.finish
func wasmFinish(writer resource, result unsafe.Pointer)

func hostFinish(writer resource) (string, error) {
	before := incoming.mark()
	defer incoming.release(before)
	wasmFinish(writer, resultArea())
	return resultText()
}

//go:wasmimport macula:plugin/content@0.1.0 [resource-drop]writer
func wasmDropWriter(self resource)

func hostDropWriter(self resource) { wasmDropWriter(self) }

//go:wasmimport macula:plugin/content@0.1.0 open
func wasmOpen(mcid string, result unsafe.Pointer)

func hostOpen(mcid string) (resource, error) {
	before := incoming.mark()
	defer incoming.release(before)
	wasmOpen(mcid, resultArea())
	return at[resource](4), failed()
}

//go:wasmimport macula:plugin/content@0.1.0 [method]blob.size
func wasmBlobSize(self resource) uint64

func hostBlobSize(self resource) uint64 { return wasmBlobSize(self) }

//go:wasmimport macula:plugin/content@0.1.0 [method]blob.read
func wasmRead(self resource, offset uint64, length uint32, result unsafe.Pointer)

func hostRead(self resource, offset uint64, length uint32) ([]byte, error) {
	before := incoming.mark()
	defer incoming.release(before)
	wasmRead(self, offset, length, resultArea())
	if err := failed(); err != nil {
		return nil, err
	}
	return at[list](4).bytes(), nil
}

//go:wasmimport macula:plugin/content@0.1.0 [resource-drop]blob
func wasmDropBlob(self resource)

func hostDropBlob(self resource) { wasmDropBlob(self) }

//go:wasmimport macula:plugin/content@0.1.0 fetch-all
func wasmFetchAll(mcid string, result unsafe.Pointer)

func hostFetchAll(mcid string) (resource, error) {
	before := incoming.mark()
	defer incoming.release(before)
	wasmFetchAll(mcid, resultArea())
	return at[resource](4), failed()
}

//go:wasmimport macula:plugin/content@0.1.0 [method]fetch.state
func wasmFetchState(self resource, result unsafe.Pointer)

// Cases of content.fetch-state.
const (
	fetchRunning = iota
	fetchDone
	fetchFailed
)

func hostFetchState(self resource) FetchState {
	before := incoming.mark()
	defer incoming.release(before)
	wasmFetchState(self, resultArea())
	switch at[uint8](0) {
	case fetchRunning:
		return FetchState{Progress: Progress{
			StoredBytes: at[uint64](8), Sized: at[bool](16), TotalBytes: at[uint64](24), Providers: at[uint32](32),
		}}
	case fetchDone:
		return FetchState{Done: true}
	default:
		error := at[hostError](8)
		return FetchState{Err: error.lift()}
	}
}

//go:wasmimport macula:plugin/content@0.1.0 [method]fetch.cancel
func wasmCancelFetch(self resource)

func hostCancelFetch(self resource) { wasmCancelFetch(self) }

//go:wasmimport macula:plugin/content@0.1.0 has
func wasmHas(mcid string, result unsafe.Pointer)

func hostHas(mcid string) (bool, error) {
	before := incoming.mark()
	defer incoming.release(before)
	wasmHas(mcid, resultArea())
	if err := failed(); err != nil {
		return false, err
	}
	return at[bool](4), nil
}

//go:wasmimport macula:plugin/content@0.1.0 pin
func wasmPin(mcid string, result unsafe.Pointer)

func hostPin(mcid string) error {
	before := incoming.mark()
	defer incoming.release(before)
	wasmPin(mcid, resultArea())
	return failed()
}

//go:wasmimport macula:plugin/content@0.1.0 unpin
func wasmUnpin(mcid string, result unsafe.Pointer)

func hostUnpin(mcid string) error {
	before := incoming.mark()
	defer incoming.release(before)
	wasmUnpin(mcid, resultArea())
	return failed()
}
