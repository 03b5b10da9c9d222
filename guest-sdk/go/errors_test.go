//go:build !wasip1

package macula

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"testing"
	"time"
)

var errOdd = errors.New("odd")

func notNumber() error {
	_, err := strconv.ParseFloat("x", 64)
	return err
}

func kindOf(kind error) error { return &Error{Kind: kind, Text: "why"} }

// What callers and logs see is the same whatever language a plugin is written in: the Rust and JavaScript SDKs have the
// same table.
func TestEachKindHasTheSameCodeAndTextInEveryLanguage(t *testing.T) {
	for _, row := range []struct {
		err        error
		code, text string
	}{
		{kindOf(ErrDenied), "denied", "denied: why"},
		{kindOf(ErrInvalid), "invalid", "invalid: why"},
		{kindOf(ErrNotFound), "not-found", "not found: why"},
		{&Error{Kind: ErrTimeout}, "timeout", "timeout"},
		{kindOf(ErrUnavailable), "unavailable", "unavailable: why"},
		{&Error{Kind: ErrTooLarge, BytesMax: 5}, "too-large", "too large: at most 5 bytes"},
		{kindOf(ErrQuotaExceeded), "quota-exceeded", "quota exceeded: why"},
		{kindOf(ErrConflict), "conflict", "conflict: why"},
		{&Error{Kind: ErrCancelled}, "cancelled", "cancelled"},
		{kindOf(ErrOther), "other", "other: why"},
	} {
		if code := handlerErrorOf(row.err).Code; code != row.code || row.err.Error() != row.text {
			t.Errorf("%s, %q, expected %s, %q", code, row.err, row.code, row.text)
		}
	}
}

// A row for each line of the tables at Handle and HandleCall.
func TestEachErrorHasItsUsualDispositionAndCode(t *testing.T) {
	upstream := &HandlerError{Code: "own", Message: "no", Data: []byte("details")}
	rows := []struct {
		err         error
		disposition DispositionKind
		code        string
	}{
		{kindOf(ErrDenied), DispositionDeadLetter, "denied"},
		{kindOf(ErrInvalid), DispositionReject, "invalid"},
		{kindOf(ErrNotFound), DispositionRetry, "not-found"},
		{&Error{Kind: ErrTimeout}, DispositionRetry, "timeout"},
		{kindOf(ErrUnavailable), DispositionRetry, "unavailable"},
		{&Error{Kind: ErrTooLarge, BytesMax: 5}, DispositionReject, "too-large"},
		{kindOf(ErrQuotaExceeded), DispositionRetry, "quota-exceeded"},
		{kindOf(ErrConflict), DispositionRetry, "conflict"},
		{&Error{Kind: ErrCancelled}, DispositionRetry, "cancelled"},
		{kindOf(ErrOther), DispositionRetry, "other"},
		{&CallError{ErrNotRun, kindOf(ErrUnavailable)}, DispositionRetry, "unavailable"},
		{&CallError{ErrNotRun, kindOf(ErrInvalid)}, DispositionReject, "invalid"},
		{&CallError{ErrNotRun, kindOf(ErrDenied)}, DispositionDeadLetter, "denied"},
		{&CallError{ErrMaybeRun, &Error{Kind: ErrTimeout}}, DispositionDeadLetter, "timeout"},
		{&CallError{ErrMaybeRun, kindOf(ErrInvalid)}, DispositionDeadLetter, "invalid"},
		{upstream, DispositionReject, "own"},
		{&DecodeError{"payload", errOdd}, DispositionReject, "bad-arguments"},
		{json.Unmarshal([]byte("{"), new(int)), DispositionReject, "bad-arguments"},
		{json.Unmarshal([]byte(`"x"`), new(int)), DispositionReject, "bad-arguments"},
		{notNumber(), DispositionReject, "bad-arguments"},
		{io.ErrUnexpectedEOF, DispositionReject, "bad-arguments"},
		{errOdd, DispositionDeadLetter, "failed"},
	}
	for _, row := range rows {
		for _, err := range []error{row.err, fmt.Errorf("saving: %w", row.err), errors.Join(errOdd, row.err)} {
			if got := dispositionOf(err); got.Kind != row.disposition {
				t.Errorf("%q: %s, expected %s", err, got, row.disposition)
			}
			if got := handlerErrorOf(err); got.Code != row.code {
				t.Errorf("%q: code %q, expected %q", err, got.Code, row.code)
			}
		}
	}
}

func TestNoErrorIsAck(t *testing.T) {
	if got := dispositionOf(nil); got != (Disposition{}) || got.String() != "ack" {
		t.Errorf("%s", got)
	}
}

func TestADispositionSaysWhy(t *testing.T) {
	err := fmt.Errorf("room %d: %w", 7, kindOf(ErrInvalid))
	if got := dispositionOf(err).String(); got != "reject: room 7: invalid: why" {
		t.Errorf("%q", got)
	}
	if got := dispositionOf(kindOf(ErrConflict)); got.Reason != "" || got.Delay != nil {
		t.Errorf("a retry has no reason, and the host's delay: %+v", got)
	}
}

func TestAHandlerMaySayOtherwise(t *testing.T) {
	denied := kindOf(ErrDenied)
	for _, row := range []struct {
		err  error
		kind DispositionKind
		text string
	}{
		{Retry(denied), DispositionRetry, "retry"},
		{Reject(denied), DispositionReject, "reject: denied: why"},
		{DeadLetter(notNumber()), DispositionDeadLetter, `dead-letter: strconv.ParseFloat: parsing "x": invalid syntax`},
		{fmt.Errorf("saving: %w", Reject(denied)), DispositionReject, "reject: saving: denied: why"},
		{Reject(Retry(denied)), DispositionReject, "reject: denied: why"},
		{Code("slow", Reject(denied)), DispositionReject, "reject: denied: why"},
	} {
		if got := dispositionOf(row.err); got.Kind != row.kind || got.String() != row.text {
			t.Errorf("%q, expected %q", got, row.text)
		}
	}
	delayed := dispositionOf(RetryAfter(3*time.Second, errOdd))
	if delayed.Kind != DispositionRetry || delayed.Delay == nil || *delayed.Delay != 3*time.Second {
		t.Errorf("%+v", delayed)
	}
	if !errors.Is(Retry(denied), ErrDenied) {
		t.Error("the error is still there")
	}
}

func TestCallersGetCodeTextAndDetails(t *testing.T) {
	own := &HandlerError{Code: "own", Message: "no", Data: []byte("details")}
	for _, row := range []struct{ err, expected error }{
		{own, own},
		{fmt.Errorf("asking: %w", own), &HandlerError{"own", "asking: own: no", own.Data}},
		{Code("slow", &Error{Kind: ErrTimeout}), &HandlerError{"slow", "timeout", nil}},
		{Code("slow", own), &HandlerError{"slow", "no", own.Data}},
		{Reject(Code("slow", errOdd)), &HandlerError{"slow", "odd", nil}},
		{UnknownProcedure("a.b"), &HandlerError{"unknown-procedure", "this plugin has no procedure a.b", nil}},
	} {
		got, expected := handlerErrorOf(row.err), row.expected.(*HandlerError)
		if got.Error() != expected.Error() || string(got.Data) != string(expected.Data) {
			t.Errorf("%q %q, expected %q %q", got, got.Data, expected, expected.Data)
		}
	}
}

func TestLongMessagesAreCutBetweenCharacters(t *testing.T) {
	for text, length := range map[string]int{
		strings.Repeat("é", 1_000):       1_024,
		"x" + strings.Repeat("é", 1_000): 1_023,
		strings.Repeat("x", 1_024):       1_024,
	} {
		if got := handlerErrorOf(errors.New(text)); len(got.Message) != length {
			t.Errorf("%d bytes, expected %d", len(got.Message), length)
		}
	}
}

// The host ends an instance that hands over text that is no UTF-8.
func TestTextsForTheHostAreUTF8(t *testing.T) {
	broken := errors.New("unknown command \xff\xfe")
	const mended = "unknown command \uFFFD"
	if got := dispositionOf(Reject(broken)).Reason; got != mended {
		t.Errorf("%q", got)
	}
	if got := handlerErrorOf(broken).Message; got != mended {
		t.Errorf("%q", got)
	}
	if got := hostErrorOf(broken).Text; got != mended {
		t.Errorf("%q", got)
	}
	if got := hostErrorOf(&Error{Kind: ErrInvalid, Text: broken.Error()}).Text; got != mended {
		t.Errorf("%q", got)
	}
	if got := Unhealthy(broken.Error()).String(); got != "unhealthy: "+mended {
		t.Errorf("%q", got)
	}
}

func TestTheHostGetsTheErrorThatLetsItTryAgain(t *testing.T) {
	for _, row := range []struct {
		err      error
		expected string
		kind     error
	}{
		{&Error{Kind: ErrTimeout}, "timeout", ErrTimeout},
		{fmt.Errorf("starting: %w", &Error{Kind: ErrTimeout}), "timeout", ErrTimeout},
		{fmt.Errorf("starting: %w", kindOf(ErrUnavailable)), "unavailable: starting: unavailable: why", ErrUnavailable},
		{kindOf(ErrDenied), "denied: why", ErrDenied},
		{fmt.Errorf("starting: %w", kindOf(ErrDenied)), "other: starting: denied: why", ErrOther},
		{&Error{Kind: ErrTooLarge, BytesMax: 5}, "too large: at most 5 bytes", ErrTooLarge},
		{errOdd, "other: odd", ErrOther},
	} {
		if got := hostErrorOf(row.err); got.Error() != row.expected || got.Kind != row.kind {
			t.Errorf("%q: %q, expected %q", row.err, got, row.expected)
		}
	}
}

func TestErrorsCanBeAskedAbout(t *testing.T) {
	err := fmt.Errorf("asking: %w", &CallError{ErrNotRun, kindOf(ErrNotFound)})
	if !errors.Is(err, ErrNotRun) || !errors.Is(err, ErrNotFound) || errors.Is(err, ErrMaybeRun) {
		t.Errorf("%v", err)
	}
	if err.Error() != "asking: the call did not run: not found: why" {
		t.Errorf("%q", err)
	}
	var own *Error
	if !errors.As(err, &own) || own.Text != "why" {
		t.Errorf("%v", own)
	}
	decode := &DecodeError{"payload", notNumber()}
	if !errors.Is(decode, strconv.ErrSyntax) {
		t.Errorf("%v", decode)
	}
}
