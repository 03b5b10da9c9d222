package macula

import (
	"cmp"
	"context"
	"encoding/json"
	"time"
)

// CallTimeout is how long a call without a [Timeout] waits, at most.
const CallTimeout = 5 * time.Second

// CallOptions are what options to [Call] set. A plugin uses the options; tests see what they made.
type CallOptions struct {
	Timeout        time.Duration
	ContentType    string
	IdempotencyKey string
	Metadata       Metadata
}

// CallOption says how to call: [Timeout], [ContentType], [IdempotencyKey], [Meta].
type CallOption interface{ applyCall(*CallOptions) }

type timeout time.Duration

func (t timeout) applyCall(o *CallOptions) { o.Timeout = time.Duration(t) }

// Timeout is how long an answer is wanted, 1 ms to 10 min; the context's deadline and the time left to the handler cut it.
func Timeout(duration time.Duration) CallOption { return timeout(duration) }

type idempotencyKey string

func (k idempotencyKey) applyCall(o *CallOptions) { o.IdempotencyKey = string(k) }

// IdempotencyKey is the same for every try of what is to happen once, at most 64 bytes. With a key the mesh may itself
// try another provider after ErrMaybeRun.
func IdempotencyKey(key string) CallOption { return idempotencyKey(key) }

// Call calls a procedure and waits for the answer, at most 1 MiB. The instance handles nothing else meanwhile; a call
// that could only come back to this waiting instance fails at once.
//
// Errors: HandlerError, when the handler said no; CallError for everything else, which says whether it may have run.
func Call(ctx context.Context, procedure string, payload []byte, options ...CallOption) ([]byte, error) {
	o, err := callOptions(ctx, options)
	if err := cmp.Or(err, checkName("procedure", procedure)); err != nil {
		return nil, &CallError{Outcome: ErrNotRun, Cause: err}
	}
	return hostCall(procedure, payload, o)
}

// CallJSON calls a procedure with arguments as JSON, and reads its answer into answer unless that is nil.
//
// Errors: as [Call]; DecodeError when the answer is not of the form.
func CallJSON(ctx context.Context, procedure string, arguments, answer any, options ...CallOption) error {
	payload, err := json.Marshal(arguments)
	if err != nil {
		return &CallError{Outcome: ErrNotRun, Cause: &Error{Kind: ErrInvalid, Text: "arguments: " + err.Error()}}
	}
	bytes, err := Call(ctx, procedure, payload, append([]CallOption{contentType("application/json")}, options...)...)
	if err != nil || answer == nil {
		return err
	}
	return decodeJSON("answer", bytes, answer)
}

// callOptions gives nil when the call is as without options and deadline.
func callOptions(ctx context.Context, options []CallOption) (*CallOptions, error) {
	if err := over(ctx); err != nil {
		return nil, err
	}
	deadline, limited := ctx.Deadline()
	if len(options) == 0 && !limited {
		return nil, nil
	}
	o := CallOptions{Timeout: CallTimeout}
	for _, option := range options {
		option.applyCall(&o)
	}
	if limited {
		o.Timeout = min(o.Timeout, time.Until(deadline))
	}
	err := cmp.Or(
		checkName("content type", o.ContentType), checkName("idempotency key", o.IdempotencyKey), o.Metadata.check(),
	)
	if err != nil {
		return nil, err
	}
	// The contract counts whole milliseconds, and 0 is none.
	o.Timeout = max(o.Timeout, time.Millisecond)
	return &o, nil
}

// AdvertiseOptions are what options to [Advertise] set.
type AdvertiseOptions struct {
	// 0 for the host's own.
	InFlightMax uint32
	Metadata    Metadata
}

// AdvertiseOption says how to offer a procedure: [InFlight], [Meta].
type AdvertiseOption interface{ applyAdvertise(*AdvertiseOptions) }

type inFlight uint32

func (n inFlight) applyAdvertise(o *AdvertiseOptions) { o.InFlightMax = uint32(n) }

// InFlight bounds the calls waiting or running here, 1 to 65,536; relays send further ones elsewhere.
func InFlight(callsMax uint32) AdvertiseOption { return inFlight(callsMax) }

// Advertisement is a procedure on offer, until Withdraw or the end of the instance; forgetting it changes nothing.
type Advertisement struct {
	procedure string
	handle    resource
}

// Advertise offers a procedure. It takes effect when the current handler returns.
//
// Errors: ErrDenied; ErrInvalid; ErrQuotaExceeded (too many); ErrConflict (this instance already offers it).
func Advertise(ctx context.Context, procedure string, options ...AdvertiseOption) (*Advertisement, error) {
	if err := cmp.Or(over(ctx), checkName("procedure", procedure)); err != nil {
		return nil, err
	}
	var o *AdvertiseOptions
	if len(options) > 0 {
		o = &AdvertiseOptions{}
		for _, option := range options {
			option.applyAdvertise(o)
		}
		if err := o.Metadata.check(); err != nil {
			return nil, err
		}
	}
	handle, err := hostAdvertise(procedure, o)
	if err != nil {
		return nil, err
	}
	return &Advertisement{procedure, handle}, nil
}

// Procedure is the procedure as given.
func (a *Advertisement) Procedure() string { return a.procedure }

// Withdraw takes the offer back; calls already taken are still answered. Twice is once.
func (a *Advertisement) Withdraw() { hostWithdraw(a.handle) }
