package macula

import (
	"cmp"
	"context"
	"errors"
	"io"
)

// PieceBytesMax is what one read, one write and one Put may hold.
const PieceBytesMax = 1 << 20

// Put stores up to 1 MiB and gives its content id; storing the same bytes again is free.
//
// Errors: ErrTooLarge (use [Create]), ErrQuotaExceeded, ErrUnavailable (disk).
func Put(ctx context.Context, data []byte) (mcid string, err error) {
	if err := over(ctx); err != nil {
		return "", err
	}
	return hostPut(data)
}

// ContentWriter is content being written. Closing it without Finish forgets the pieces.
type ContentWriter struct {
	handle resource
	used   bool
}

var _ io.WriteCloser = (*ContentWriter)(nil)

var errFinished = &Error{Kind: ErrInvalid, Text: "this content is already finished or closed"}

// Create begins content of any size. Errors: ErrQuotaExceeded, ErrUnavailable.
func Create(ctx context.Context) (*ContentWriter, error) {
	if err := over(ctx); err != nil {
		return nil, err
	}
	handle, err := hostCreate()
	if err != nil {
		return nil, err
	}
	return &ContentWriter{handle: handle}, nil
}

// Write adds a piece, of any length. Errors: ErrQuotaExceeded; ErrUnavailable (disk).
func (w *ContentWriter) Write(data []byte) (written int, err error) {
	if w.used {
		return 0, errFinished
	}
	for written < len(data) {
		piece := data[written:min(len(data), written+PieceBytesMax)]
		if err := hostWrite(w.handle, piece); err != nil {
			return written, err
		}
		written += len(piece)
	}
	return written, nil
}

// Finish stores what was written and gives its content id. The writer is used up, also on an error.
func (w *ContentWriter) Finish() (mcid string, err error) {
	if w.used {
		return "", errFinished
	}
	w.used = true
	return hostFinish(w.handle)
}

// Close forgets what was not finished. It never fails.
func (w *ContentWriter) Close() error {
	if !w.used {
		w.used = true
		hostDropWriter(w.handle)
	}
	return nil
}

// Blob is content open for reading. It cannot be evicted while open; 64 may be open, so close it.
type Blob struct {
	handle resource
	size   int64
	offset int64
	closed bool
}

var (
	_ io.ReadCloser = (*Blob)(nil)
	_ io.ReaderAt   = (*Blob)(nil)
)

// Open opens content for reading; parts that are not on this host are fetched as they are read.
//
// Errors: ErrInvalid (no content id), ErrDenied, ErrNotFound (no provider), ErrTimeout, ErrUnavailable, ErrQuotaExceeded
// (too many open).
func Open(ctx context.Context, mcid string) (*Blob, error) {
	if err := cmp.Or(over(ctx), checkName("content id", mcid)); err != nil {
		return nil, err
	}
	handle, err := hostOpen(mcid)
	if err != nil {
		return nil, err
	}
	return &Blob{handle: handle, size: int64(hostBlobSize(handle))}, nil
}

// Size is the content's length in bytes.
func (b *Blob) Size() int64 { return b.size }

// Read implements [io.Reader]: it goes on where the last one stopped.
func (b *Blob) Read(buffer []byte) (int, error) {
	if len(buffer) == 0 {
		return 0, nil
	}
	read, err := b.ReadAt(buffer[:min(len(buffer), PieceBytesMax)], b.offset)
	b.offset += int64(read)
	if read > 0 && errors.Is(err, io.EOF) {
		err = nil
	}
	return read, err
}

// ReadAt implements [io.ReaderAt]. It waits for bytes that are not on this host yet.
//
// Errors: io.EOF, ErrTimeout, ErrUnavailable (no provider left), ErrNotFound (gone everywhere).
func (b *Blob) ReadAt(buffer []byte, offset int64) (read int, err error) {
	if b.closed || offset < 0 {
		return 0, &Error{Kind: ErrInvalid, Text: "a read of a closed blob or from a negative offset"}
	}
	for read < len(buffer) {
		wanted := min(len(buffer)-read, PieceBytesMax)
		piece, err := hostRead(b.handle, uint64(offset)+uint64(read), uint32(wanted))
		if err != nil {
			return read, err
		}
		read += copy(buffer[read:], piece)
		if len(piece) < wanted {
			return read, io.EOF
		}
	}
	return read, nil
}

// Close lets the content be evicted again. It never fails.
func (b *Blob) Close() error {
	if !b.closed {
		b.closed = true
		hostDropBlob(b.handle)
	}
	return nil
}

// Progress is how far a fetch has come.
type Progress struct {
	// Verified and stored here.
	StoredBytes uint64
	// 0 until a provider has proved the size, see Sized.
	TotalBytes uint64
	// Whether the size is known.
	Sized bool
	// Providers sending now.
	Providers uint32
}

// FetchState is the state of a fetch: running, unless it is Done or has failed with Err.
type FetchState struct {
	Done     bool
	Err      error
	Progress Progress
}

// Fetch is a fetch in the background, until it is done, Cancel, or the end of the instance; forgetting it changes
// nothing.
type Fetch struct{ handle resource }

// FetchAll begins to fetch all of a content. Look at its state from a timer.
//
// Errors: ErrInvalid, ErrDenied, ErrQuotaExceeded.
func FetchAll(ctx context.Context, mcid string) (*Fetch, error) {
	if err := cmp.Or(over(ctx), checkName("content id", mcid)); err != nil {
		return nil, err
	}
	handle, err := hostFetchAll(mcid)
	if err != nil {
		return nil, err
	}
	return &Fetch{handle}, nil
}

// State says how far it is. After an error, what was stored stays; a later fetch goes on from there.
func (f *Fetch) State() FetchState { return hostFetchState(f.handle) }

// Cancel stops it; its state is then ErrCancelled unless it was done.
func (f *Fetch) Cancel() { hostCancelFetch(f.handle) }

// Has tells whether all of a content is on this host. Errors: ErrInvalid.
func Has(mcid string) (bool, error) {
	if err := checkName("content id", mcid); err != nil {
		return false, err
	}
	return hostHas(mcid)
}

// Pin keeps a content from being evicted, on behalf of this plugin and beyond the life of the instance. Twice is once.
//
// Errors: ErrInvalid, ErrNotFound (not complete on this host), ErrQuotaExceeded.
func Pin(mcid string) error {
	if err := checkName("content id", mcid); err != nil {
		return err
	}
	return hostPin(mcid)
}

// Unpin lets it be evicted again. Errors: ErrInvalid.
func Unpin(mcid string) error {
	if err := checkName("content id", mcid); err != nil {
		return err
	}
	return hostUnpin(mcid)
}
