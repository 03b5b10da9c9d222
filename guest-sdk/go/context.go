package macula

import (
	"context"
	"errors"
	"time"
)

// handlerContext is the context of a handler that has a deadline. It needs no timer, which would wake this instance:
// the host ends what takes too long, and the clock is read when somebody asks.
type handlerContext struct{ deadline time.Time }

func (c handlerContext) Deadline() (time.Time, bool) { return c.deadline, true }
func (c handlerContext) Done() <-chan struct{}       { return nil }
func (c handlerContext) Value(any) any               { return nil }

func (c handlerContext) Err() error {
	if time.Now().Before(c.deadline) {
		return nil
	}
	return context.DeadlineExceeded
}

// over says why nothing more is to be asked of the host.
func over(ctx context.Context) error {
	err := ctx.Err()
	if deadline, limited := ctx.Deadline(); err == nil && limited && !time.Now().Before(deadline) {
		// A context made of a handler's has its deadline, but nothing that ends it then.
		err = context.DeadlineExceeded
	}
	switch {
	case err == nil:
		return nil
	case errors.Is(err, context.DeadlineExceeded):
		return &Error{Kind: ErrTimeout}
	default:
		return &Error{Kind: ErrCancelled}
	}
}
