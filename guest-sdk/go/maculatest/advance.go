//go:build !wasip1

package maculatest

import (
	"cmp"
	"time"

	"macula.host/macula"
)

// A timer that its own tick sets to now again would keep time from passing. More ticks than this at one time are a
// mistake: a plugin has at most 65,536 timers.
const ticksAtOnceMax = 100_000

// Advance lets this much time pass. Timers that fall due tick in order, each at its own time. It gives how many did, and
// the first error of a tick; the others tick nevertheless.
func (h *Host) Advance(by time.Duration) (ticks int, err error) {
	h.t.Helper()
	defer h.enter()()
	until := h.state.now().Add(max(by, 0))
	var last uint64
	for atOnce := 0; ; atOnce++ {
		tick, ok := h.state.takeDue(until)
		if !ok {
			return ticks, err
		}
		if tick.DueMs > last {
			last, atOnce = tick.DueMs, 0
		}
		if atOnce == ticksAtOnceMax {
			h.t.Fatalf("timer %s is set to the same time again and again", tick.Name)
		}
		ticks++
		err = cmp.Or(err, h.plugin.Tick(tick))
	}
}

// takeDue goes to the next tick until then, or to that time when there is none.
func (s *state) takeDue(until time.Time) (tick macula.Tick, ok bool) {
	defer s.lock()()
	untilMs := uint64(until.UnixMilli())
	if tick, ok = s.timers.takeDue(untilMs); ok {
		// A timer set to a time before now, by a handler that ran then, does not turn time back.
		s.nowMs = max(s.nowMs, tick.DueMs)
	} else {
		s.nowMs = untilMs
	}
	return tick, ok
}

// Now is the virtual time.
func (h *Host) Now() time.Time { return h.state.now() }

// Timers gives the names of the timers that run, sorted.
func (h *Host) Timers() []string {
	defer h.state.lock()()
	return h.state.timers.names()
}
