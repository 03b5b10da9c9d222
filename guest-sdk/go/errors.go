package macula

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
)

// What an [Error] can be; ask with [errors.Is].
var (
	// The plugin lacks the right; the text names it, for example "/mesh/publish alerts.kitchen".
	ErrDenied = errors.New("denied")
	// An argument can never be valid; the text says which, and what would be right.
	ErrInvalid = errors.New("invalid")
	// The procedure, content, key or bucket named in the text does not exist here or cannot be found now.
	ErrNotFound = errors.New("not found")
	// Time ran out. What was asked may still happen.
	ErrTimeout = errors.New("timeout")
	// No link, no relay, no provider, or every queue full. Nothing happened.
	ErrUnavailable = errors.New("unavailable")
	// More bytes than allowed.
	ErrTooLarge = errors.New("too large")
	// A quota of this plugin is used up; the text names it.
	ErrQuotaExceeded = errors.New("quota exceeded")
	// Somebody else was first: a compare-and-swap lost, or the name is taken.
	ErrConflict = errors.New("conflict")
	// Stopped because the plugin is being shut down or the other side gave up.
	ErrCancelled = errors.New("cancelled")
	// Anything else.
	ErrOther = errors.New("other")
)

// What became of a failed call; ask with [errors.Is].
var (
	// The handler did not run. Trying again cannot make it run twice.
	ErrNotRun = errors.New("the call did not run")
	// The handler may have run. Try again only what may happen twice, or with an [IdempotencyKey].
	ErrMaybeRun = errors.New("the call may have run")
)

// Error is why the host or the mesh did not do what was asked.
type Error struct {
	// One of the errors above: ErrDenied, ErrInvalid, …
	Kind error
	// For people; empty for ErrTimeout and ErrCancelled.
	Text string
	// For ErrTooLarge: how many bytes are allowed.
	BytesMax uint32
}

func (e *Error) Error() string {
	switch {
	case e.Kind == ErrTooLarge:
		return fmt.Sprintf("too large: at most %d bytes", e.BytesMax)
	case e.Text == "":
		return e.Kind.Error()
	default:
		return e.Kind.Error() + ": " + e.Text
	}
}

// Unwrap gives the kind, for [errors.Is].
func (e *Error) Unwrap() error { return e.Kind }

// CallError is why a call gave no answer, sorted by what the caller has to know first: did the handler run?
type CallError struct {
	// ErrNotRun or ErrMaybeRun.
	Outcome error
	// Why.
	Cause error
}

func (e *CallError) Error() string { return e.Outcome.Error() + ": " + e.Cause.Error() }

// Unwrap gives the outcome and the cause, for [errors.Is] and [errors.As].
func (e *CallError) Unwrap() []error { return []error{e.Outcome, e.Cause} }

// HandlerError is a handler's own no to a call, given to the caller unchanged: its handler ran.
type HandlerError struct {
	// For programs: 1 to 64 characters of [a-z0-9-], for example "out-of-range".
	Code string
	// For people: one sentence, at most 1,024 bytes.
	Message string
	// Details in an encoding of the procedure's own; mostly empty, at most 64 KiB.
	Data []byte
}

func (e *HandlerError) Error() string { return e.Code + ": " + e.Message }

// DecodeError says that a payload or a setting is not of the form that was asked for.
type DecodeError struct {
	// What was read: "payload", "argument", "answer".
	What string
	// What is wrong with it.
	Cause error
}

func (e *DecodeError) Error() string { return e.What + ": " + e.Cause.Error() }

// Unwrap gives the cause.
func (e *DecodeError) Unwrap() error { return e.Cause }

// remedy is an error with what the handler itself said is to become of the message or the call.
type remedy struct {
	cause       error
	disposition func(text string) Disposition
	code        string
}

func (r *remedy) Error() string { return r.cause.Error() }
func (r *remedy) Unwrap() error { return r.cause }

// Retry has the message delivered again after the host's growing delay; after the last attempt it becomes a dead letter.
// Messages of the same publisher and topic wait behind it.
func Retry(err error) error {
	return &remedy{cause: err, disposition: func(string) Disposition { return Disposition{Kind: DispositionRetry} }}
}

// RetryAfter has the message delivered again after this delay.
func RetryAfter(delay time.Duration, err error) error {
	return &remedy{cause: err, disposition: func(string) Disposition {
		return Disposition{Kind: DispositionRetry, Delay: &delay}
	}}
}

// Reject says that this plugin will never handle the message: it is counted and logged with the text, then dropped.
func Reject(err error) error {
	return &remedy{cause: err, disposition: func(text string) Disposition {
		return Disposition{Kind: DispositionReject, Reason: text}
	}}
}

// DeadLetter keeps the message for a person to look at and to replay, with the text as the reason.
func DeadLetter(err error) error {
	return &remedy{cause: err, disposition: func(text string) Disposition {
		return Disposition{Kind: DispositionDeadLetter, Reason: text}
	}}
}

// Code answers the call with this code, and the error's text.
func Code(code string, err error) error { return &remedy{cause: err, code: code} }

// UnknownProcedure answers a call of a procedure that this plugin does not know.
func UnknownProcedure(procedure string) error {
	return &HandlerError{Code: "unknown-procedure", Message: "this plugin has no procedure " + procedure}
}

// DispositionKind is what becomes of a message.
type DispositionKind uint8

const (
	// DispositionAck: done.
	DispositionAck DispositionKind = iota
	// DispositionRetry: deliver again.
	DispositionRetry
	// DispositionReject: counted and logged, then dropped.
	DispositionReject
	// DispositionDeadLetter: kept for a person.
	DispositionDeadLetter
)

func (k DispositionKind) String() string {
	return [...]string{"ack", "retry", "reject", "dead-letter"}[k]
}

// Disposition is what becomes of a message, and why.
type Disposition struct {
	Kind DispositionKind
	// For a retry: after how long; nil for the host's growing delay.
	Delay *time.Duration
	// For reject and dead letter.
	Reason string
}

func (d Disposition) String() string {
	if d.Reason == "" {
		return d.Kind.String()
	}
	return d.Kind.String() + ": " + d.Reason
}

// dispositionOf says what becomes of a message whose handler gave err: the table at [Handle].
func dispositionOf(err error) Disposition {
	if err == nil {
		return Disposition{}
	}
	text := valid(err.Error())
	if own := remedyOf(err, func(r *remedy) bool { return r.disposition != nil }); own != nil {
		return own.disposition(text)
	}
	var handler *HandlerError
	switch {
	case errors.Is(err, ErrMaybeRun):
		return Disposition{Kind: DispositionDeadLetter, Reason: text}
	case errors.Is(err, ErrInvalid), errors.Is(err, ErrTooLarge), errors.As(err, &handler), isDecoding(err):
		return Disposition{Kind: DispositionReject, Reason: text}
	case errors.Is(err, ErrDenied):
		return Disposition{Kind: DispositionDeadLetter, Reason: text}
	case hasKind(err):
		return Disposition{Kind: DispositionRetry}
	default:
		return Disposition{Kind: DispositionDeadLetter, Reason: text}
	}
}

// handlerErrorOf says what a caller gets whose call's handler gave err: the table at [HandleCall].
func handlerErrorOf(err error) *HandlerError {
	text := err.Error()
	var own *HandlerError
	var data []byte
	code := codeOf(err)
	if errors.As(err, &own) {
		code, data = own.Code, own.Data
		if text == own.Error() {
			text = own.Message
		}
	}
	if said := remedyOf(err, func(r *remedy) bool { return r.code != "" }); said != nil {
		code = said.code
	}
	return &HandlerError{Code: valid(code), Message: truncate(valid(text), 1024), Data: data}
}

// hostErrorOf says what the host is told when a handler of no message and no call gave err.
func hostErrorOf(err error) *Error {
	var own *Error
	switch {
	case errors.As(err, &own) && own.Error() == err.Error():
		return &Error{Kind: own.Kind, Text: valid(own.Text), BytesMax: own.BytesMax}
	case errors.Is(err, ErrTimeout):
		return &Error{Kind: ErrTimeout}
	case errors.Is(err, ErrUnavailable):
		return &Error{Kind: ErrUnavailable, Text: valid(err.Error())}
	default:
		return &Error{Kind: ErrOther, Text: valid(err.Error())}
	}
}

func codeOf(err error) string {
	for _, kind := range []struct {
		err  error
		code string
	}{
		{ErrDenied, "denied"}, {ErrInvalid, "invalid"}, {ErrNotFound, "not-found"}, {ErrTimeout, "timeout"},
		{ErrUnavailable, "unavailable"}, {ErrTooLarge, "too-large"}, {ErrQuotaExceeded, "quota-exceeded"},
		{ErrConflict, "conflict"}, {ErrCancelled, "cancelled"}, {ErrOther, "other"},
	} {
		if errors.Is(err, kind.err) {
			return kind.code
		}
	}
	if isDecoding(err) {
		return "bad-arguments"
	}
	return "failed"
}

func hasKind(err error) bool {
	var own *Error
	return errors.As(err, &own)
}

func isDecoding(err error) bool {
	var (
		decode    *DecodeError
		syntax    *json.SyntaxError
		unmarshal *json.UnmarshalTypeError
		number    *strconv.NumError
	)
	return errors.As(err, &decode) || errors.As(err, &syntax) || errors.As(err, &unmarshal) ||
		errors.As(err, &number) || errors.Is(err, io.ErrUnexpectedEOF)
}

// remedyOf gives the outermost remedy that says what is asked about: one may say what becomes of a message, another
// inside it with which code a call is answered.
func remedyOf(err error, says func(*remedy) bool) *remedy {
	for {
		var found *remedy
		if !errors.As(err, &found) || says(found) {
			return found
		}
		err = found.cause
	}
}

// valid gives text as the host takes it. It ends an instance that hands over what is no UTF-8, and the texts of errors
// and logs often hold what somebody else has sent.
func valid(text string) string { return strings.ToValidUTF8(text, "\uFFFD") }

// truncate cuts text to at most so many bytes, between two characters.
func truncate(text string, bytesMax int) string {
	if len(text) <= bytesMax {
		return text
	}
	for bytesMax > 0 && text[bytesMax]&0xC0 == 0x80 {
		bytesMax--
	}
	return text[:bytesMax]
}
