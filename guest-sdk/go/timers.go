package macula

import (
	"cmp"
	"time"
	"unicode/utf8"
)

// After sets one tick, delay from now (0: right after the current handler). A timer is known by its name, 1 to 64 bytes:
// timers belong to the plugin and outlive a new version or a crash of the instance. Setting a name again replaces its
// timer.
//
// Errors: ErrInvalid (name, delay), ErrQuotaExceeded.
func After(name string, delay time.Duration) error {
	milliseconds, err := millisecondsOf("delay", delay)
	if err := cmp.Or(err, checkName("timer", name)); err != nil {
		return err
	}
	return hostAfter(name, milliseconds)
}

// Every sets a tick each period, at least 10 ms, first after one period. The same again keeps its rhythm. Ticks that fall
// due while the instance is busy are not queued: the next one says how many were missed.
//
// Errors: ErrInvalid (name, period), ErrQuotaExceeded.
func Every(name string, period time.Duration) error {
	milliseconds, err := millisecondsOf("period", period)
	if err := cmp.Or(err, checkName("timer", name)); err != nil {
		return err
	}
	return hostEvery(name, milliseconds)
}

// CancelTimer stops a timer; afterwards no tick of it arrives. False when there was none.
func CancelTimer(name string) bool { return utf8.ValidString(name) && hostCancelTimer(name) }

// millisecondsOf gives a span as the contract has it: whole milliseconds, rounded up, at most 49 days.
func millisecondsOf(what string, span time.Duration) (uint32, error) {
	if span < 0 {
		return 0, &Error{Kind: ErrInvalid, Text: what + " is negative"}
	}
	milliseconds := (span + time.Millisecond - 1) / time.Millisecond
	if milliseconds > 1<<32-1 {
		return 0, &Error{Kind: ErrInvalid, Text: what + " is above 49 days"}
	}
	return uint32(milliseconds), nil
}
