package macula

import (
	"unsafe"
)

// This file is what stands between Go and the component model's canonical ABI: where the host puts what it hands over,
// and how that is read. The layouts in the other *_wasip1.go files follow from wit/ by the canonical ABI's rules; the
// signatures are checked when the component is made, and every field by the tests in examples/ and host/.
//
// Go's collector moves nothing and runs only when Go allocates, so memory that a call refers to stays where it is while
// the host reads it: nothing is pinned.

// arena is where the host puts what it hands over. It lies outside the Go heap, because cabi_realloc must not allocate
// there: an allocation can begin a collection, which reads a clock, which a component must not do inside cabi_realloc.
// Everything in it is copied into Go memory at once and then given back, so it stays small.
type arena struct {
	base   uintptr
	length uintptr
	used   uintptr
	// Whether what it gives is given back.
	lent bool
}

// Chunks are at least so long; a new one at least twice the last, so that those left behind add up to no more than it.
const arenaBytesMin = 64 << 10

var incoming arena

func init() { incoming.lent = true }

//go:linkname sbrk runtime.sbrk
func sbrk(n uintptr) unsafe.Pointer

//go:nosplit
func (a *arena) allocate(length, align uintptr) unsafe.Pointer {
	if !a.lent {
		// Before this package begins, the adapter of WASI asks for memory that it keeps.
		return aligned(uintptr(sbrk(length+align)), align)
	}
	begin := uintptr(aligned(a.base+a.used, align))
	if a.base == 0 || begin+length > a.base+a.length {
		a.length = max(arenaBytesMin, 2*a.length, length+align)
		a.base, a.used = uintptr(sbrk(a.length)), 0
		begin = uintptr(aligned(a.base, align))
	}
	a.used = begin + length - a.base
	return unsafe.Pointer(begin)
}

//go:nosplit
func aligned(address, align uintptr) unsafe.Pointer {
	return unsafe.Pointer((address + align - 1) &^ (align - 1))
}

//go:wasmexport cabi_realloc
func cabiRealloc(old unsafe.Pointer, oldLength, align, length uint32) unsafe.Pointer {
	to := incoming.allocate(uintptr(length), uintptr(align))
	if oldLength > 0 {
		copy(unsafe.Slice((*byte)(to), length), unsafe.Slice((*byte)(old), oldLength))
	}
	return to
}

// mark is how full the arena was.
type mark struct{ base, used uintptr }

func (a *arena) mark() mark { return mark{a.base, a.used} }

// release gives back what has come since the mark. What was there before lies in an earlier chunk, if there is one.
func (a *arena) release(to mark) {
	if to.base == a.base {
		a.used = to.used
	} else {
		a.used = 0
	}
}

// list is a string or a list in memory: where, and how many.
type list struct{ at, length uint32 }

func (l list) pointer() unsafe.Pointer { return unsafe.Pointer(uintptr(l.at)) }

func (l list) view() []byte { return unsafe.Slice((*byte)(l.pointer()), l.length) }

func (l list) bytes() []byte {
	bytes := make([]byte, l.length)
	copy(bytes, l.view())
	return bytes
}

func (l list) text() string { return string(l.view()) }

func listOf(bytes []byte) list {
	return list{uint32(uintptr(unsafe.Pointer(unsafe.SliceData(bytes)))), uint32(len(bytes))}
}

func listOfText(text string) list {
	return list{uint32(uintptr(unsafe.Pointer(unsafe.StringData(text)))), uint32(len(text))}
}

// text is bytes as an argument that the compiler hands over as where and how many.
func text(bytes []byte) string { return unsafe.String(unsafe.SliceData(bytes), len(bytes)) }

// pair is a named value in memory.
type pair struct{ name, value list }

func pairsOf(metadata Metadata) []pair {
	if len(metadata) == 0 {
		return nil
	}
	pairs := make([]pair, 0, len(metadata))
	for name, value := range metadata {
		pairs = append(pairs, pair{listOfText(name), listOfText(value)})
	}
	return pairs
}

func (l list) pairs() []pair { return unsafe.Slice((*pair)(l.pointer()), l.length) }

func (l list) metadata() Metadata {
	if l.length == 0 {
		return nil
	}
	metadata := make(Metadata, l.length)
	for _, pair := range l.pairs() {
		metadata[pair.name.text()] = pair.value.text()
	}
	return metadata
}

// resource is the index of a handle.
type resource int32

// hostError is types.error in memory.
type hostError struct {
	kind uint8
	text list
}

var errorKinds = [...]error{
	ErrDenied, ErrInvalid, ErrNotFound, ErrTimeout, ErrUnavailable, ErrTooLarge, ErrQuotaExceeded, ErrConflict,
	ErrCancelled, ErrOther,
}

func (e *hostError) lift() *Error {
	kind := errorKinds[e.kind]
	switch kind {
	case ErrTimeout, ErrCancelled:
		return &Error{Kind: kind}
	case ErrTooLarge:
		return &Error{Kind: kind, BytesMax: e.text.at}
	default:
		return &Error{Kind: kind, Text: e.text.text()}
	}
}

func (e *hostError) lower(from *Error) {
	for kind, known := range errorKinds {
		if from.Kind == known {
			e.kind = uint8(kind)
		}
	}
	if from.Kind == ErrTooLarge {
		e.text = list{at: from.BytesMax}
	} else {
		e.text = listOfText(keptText(from.Text))
	}
}

// results is where the host writes what a call gives; retained's is the longest. It is read before anything else runs.
var results [12]uint64

func resultArea() unsafe.Pointer { return unsafe.Pointer(&results) }

// at reads what lies so many bytes into the results.
func at[T any](offset uintptr) T { return *(*T)(unsafe.Add(resultArea(), offset)) }

// failed gives the error of a result whose value and error begin at the fourth byte.
func failed() error { return failedAt(4) }

// failedWide gives the error of a result whose value holds 64-bit numbers: they begin at the eighth byte.
func failedWide() error { return failedAt(8) }

func failedAt(offset uintptr) error {
	if !at[bool](0) {
		return nil
	}
	return (*hostError)(unsafe.Add(resultArea(), offset)).lift()
}
