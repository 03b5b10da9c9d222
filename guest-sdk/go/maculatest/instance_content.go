//go:build !wasip1

package maculatest

import (
	"bytes"
	"errors"

	"macula.host/macula"
)

// What an instance may have open at a time.
const (
	blobsMax   = 64
	writersMax = 16
)

func (i *instance) Put(data []byte) (mcid string, err error) {
	if err := checkPayload(data); err != nil {
		return "", err
	}
	defer i.lock()()
	return i.content.putOwn(data), nil
}

func (i *instance) Create() (writer int32, err error) {
	defer i.lock()()
	if len(i.handles.writers) >= writersMax {
		return 0, fault(macula.ErrQuotaExceeded, "writers: %d are open; finish or drop some", writersMax)
	}
	return open(&i.handles, &i.handles.writers, nil), nil
}

func (i *instance) Write(writer int32, piece []byte) error {
	if err := checkPayload(piece); err != nil {
		return err
	}
	defer i.lock()()
	i.handles.writers[writer] = append(i.handles.writers[writer], piece...)
	return nil
}

func (i *instance) Finish(writer int32) (mcid string, err error) {
	defer i.lock()()
	data := i.handles.writers[writer]
	delete(i.handles.writers, writer)
	return i.content.putOwn(data), nil
}

func (i *instance) DropWriter(writer int32) {
	defer i.lock()()
	delete(i.handles.writers, writer)
}

func (i *instance) Open(mcid string) (blob int32, err error) {
	defer i.lock()()
	if len(i.handles.blobs) >= blobsMax {
		return 0, fault(macula.ErrQuotaExceeded, "content: %d are open; drop some", blobsMax)
	}
	data, err := i.content.fetch(mcid, i.rights)
	if err != nil {
		return 0, err
	}
	return open(&i.handles, &i.handles.blobs, data), nil
}

func (i *instance) BlobSize(blob int32) uint64 {
	defer i.lock()()
	return uint64(len(i.handles.blobs[blob]))
}

func (i *instance) Read(blob int32, offset uint64, length uint32) ([]byte, error) {
	if length > payloadBytesMax {
		return nil, tooLarge(payloadBytesMax)
	}
	defer i.lock()()
	data := i.handles.blobs[blob]
	from := min(offset, uint64(len(data)))
	to := min(from+uint64(length), uint64(len(data)))
	return bytes.Clone(data[from:to]), nil
}

func (i *instance) DropBlob(blob int32) {
	defer i.lock()()
	delete(i.handles.blobs, blob)
}

// FetchAll begins a fetch, which here is over at once.
func (i *instance) FetchAll(mcid string) (fetch int32, err error) {
	defer i.lock()()
	state := macula.FetchState{Done: true}
	if _, err := i.content.fetch(mcid, i.rights); err != nil {
		if !errors.Is(err, macula.ErrNotFound) {
			return 0, err
		}
		state = macula.FetchState{Err: err}
	}
	return open(&i.handles, &i.handles.fetches, state), nil
}

func (i *instance) FetchState(fetch int32) macula.FetchState {
	defer i.lock()()
	return i.handles.fetches[fetch]
}

func (i *instance) CancelFetch(int32) {}

func (i *instance) Has(mcid string) (bool, error) {
	defer i.lock()()
	return i.content.has(mcid, i.rights)
}

func (i *instance) Pin(mcid string) error {
	defer i.lock()()
	return i.content.pin(mcid)
}

func (i *instance) Unpin(mcid string) error {
	defer i.lock()()
	return i.content.unpin(mcid)
}
