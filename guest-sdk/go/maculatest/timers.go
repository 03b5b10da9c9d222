//go:build !wasip1

package maculatest

import (
	"maps"
	"slices"

	"macula.host/macula"
)

// timerTable is the plugin's timers by name, in virtual time.
type timerTable map[string]timer

type timer struct {
	dueMs uint64
	// 0 for one tick.
	periodMs uint64
}

const (
	timerNameBytesMax = 64
	// The shortest period the contract allows.
	periodMsMin = 10
)

func (t timerTable) after(name string, nowMs uint64, delayMs uint32, timersMax int) error {
	if err := t.check(name, timersMax); err != nil {
		return err
	}
	t[name] = timer{dueMs: nowMs + uint64(delayMs)}
	return nil
}

func (t timerTable) every(name string, nowMs uint64, periodMs uint32, timersMax int) error {
	if err := t.check(name, timersMax); err != nil {
		return err
	}
	if periodMs < periodMsMin {
		return invalid("period of %d ms: at least %d ms", periodMs, periodMsMin)
	}
	// The same again keeps its rhythm.
	if known := t[name]; known.periodMs != uint64(periodMs) {
		t[name] = timer{dueMs: nowMs + uint64(periodMs), periodMs: uint64(periodMs)}
	}
	return nil
}

func (t timerTable) check(name string, timersMax int) error {
	if len(name) < 1 || len(name) > timerNameBytesMax {
		return invalid("timer name %q: 1 to 64 bytes", name)
	}
	if _, known := t[name]; !known && len(t) >= timersMax {
		return fault(macula.ErrQuotaExceeded, "%d timers", timersMax)
	}
	return nil
}

func (t timerTable) cancel(name string) bool {
	_, known := t[name]
	delete(t, name)
	return known
}

func (t timerTable) names() []string { return slices.Sorted(maps.Keys(t)) }

// takeDue takes the next tick due until then: the earliest, among equals the first by name.
func (t timerTable) takeDue(untilMs uint64) (tick macula.Tick, ok bool) {
	for name, timer := range t {
		if timer.dueMs > untilMs {
			continue
		}
		if !ok || timer.dueMs < tick.DueMs || timer.dueMs == tick.DueMs && name < tick.Name {
			tick, ok = macula.Tick{Name: name, DueMs: timer.dueMs}, true
		}
	}
	if !ok {
		return tick, false
	}
	if due := t[tick.Name]; due.periodMs == 0 {
		delete(t, tick.Name)
	} else {
		t[tick.Name] = timer{dueMs: due.dueMs + due.periodMs, periodMs: due.periodMs}
	}
	return tick, true
}
