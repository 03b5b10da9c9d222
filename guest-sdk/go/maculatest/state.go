//go:build !wasip1

package maculatest

import (
	"slices"
	"sync"
	"time"

	"macula.host/macula"
)

// When every test begins, in milliseconds since 1970-01-01 UTC: 2026-01-01.
const beginMs = 1_767_225_600_000

// state is everything the host knows. It outlives the plugin's instances. Handlers may use goroutines, so all of it is
// behind the mutex; no code of the plugin or the test runs while that is locked.
type state struct {
	mu             sync.Mutex
	nowMs          uint64
	manifest       *manifest
	abilities      abilities
	rights         rights
	settings       map[string]string
	subscriptions  []*subscription
	offers         []*offer
	retained       map[string]macula.Message
	published      []Published
	publishedCount uint64
	answers        map[string]AnswerFunc
	called         []macula.Request
	timers         timerTable
	buckets        map[string]*bucket
	content        contentStore
	logged         []Logged
	logLevel       macula.Level
	trace          *macula.TraceContext
}

// abilities are the handlers the plugin has: what leads to no handler is refused.
type abilities struct{ message, call, timer bool }

// subscription is a subscription of the plugin; number 0 for those of the manifest.
type subscription struct {
	id      uint32
	pattern string
	stats   macula.SubscriptionStats
	claimed bool
}

// offer is a procedure on offer.
type offer struct {
	procedure    string
	fromManifest bool
	claimed      bool
}

func newState(manifest *manifest) *state {
	s := &state{
		nowMs:    beginMs,
		manifest: manifest,
		rights:   manifest.rights(),
		settings: manifest.settings,
		retained: make(map[string]macula.Message),
		answers:  make(map[string]AnswerFunc),
		timers:   make(timerTable),
		buckets:  make(map[string]*bucket),
		content:  newContentStore(),
	}
	for _, pattern := range manifest.subscriptions {
		s.subscriptions = append(s.subscriptions, &subscription{pattern: pattern, claimed: true})
	}
	for _, procedure := range manifest.procedures {
		s.offers = append(s.offers, &offer{procedure: procedure, fromManifest: true, claimed: true})
	}
	return s
}

func (s *state) lock() (unlock func()) {
	s.mu.Lock()
	return s.mu.Unlock
}

func (s *state) setAbilities(abilities abilities) {
	defer s.lock()()
	s.abilities = abilities
}

func (s *state) now() time.Time {
	defer s.lock()()
	return time.UnixMilli(int64(s.nowMs)).UTC()
}

func (s *state) patterns() (patterns []string) {
	defer s.lock()()
	for _, known := range s.subscriptions {
		patterns = append(patterns, known.pattern)
	}
	return patterns
}

func (s *state) procedures() (procedures []string) {
	defer s.lock()()
	for _, known := range s.offers {
		procedures = append(procedures, known.procedure)
	}
	return procedures
}

// claims are what an instance has asked for, without the manifest's.
type claims struct {
	subscriptions []uint32
	offers        []string
}

// releaseClaims has the next instance ask again for what this one asked for: it takes over what it asks for again, the
// rest ends. It gives what was claimed.
func (s *state) releaseClaims() (before claims) {
	defer s.lock()()
	for _, known := range s.subscriptions {
		if known.id != 0 {
			known.claimed = false
			before.subscriptions = append(before.subscriptions, known.id)
		}
	}
	for _, known := range s.offers {
		if !known.fromManifest {
			known.claimed = false
			before.offers = append(before.offers, known.procedure)
		}
	}
	return before
}

// restoreClaims lets the old instance work on with what it had.
func (s *state) restoreClaims(before claims) {
	defer s.endUnclaimed()
	defer s.lock()()
	for _, known := range s.subscriptions {
		known.claimed = known.id == 0 || slices.Contains(before.subscriptions, known.id)
	}
	for _, known := range s.offers {
		known.claimed = known.fromManifest || slices.Contains(before.offers, known.procedure)
	}
}

func (s *state) endUnclaimed() {
	defer s.lock()()
	s.subscriptions = slices.DeleteFunc(s.subscriptions, func(known *subscription) bool { return !known.claimed })
	s.offers = slices.DeleteFunc(s.offers, func(known *offer) bool { return !known.claimed })
}

// changeRights adds a rule, and ends what is no longer allowed.
func (s *state) changeRights(command, pattern string, allow bool) error {
	defer s.lock()()
	if err := s.rights.rule(command, pattern, allow); err != nil {
		return err
	}
	s.subscriptions = slices.DeleteFunc(s.subscriptions, func(known *subscription) bool {
		return !s.rights.allow(toSubscribe, known.pattern)
	})
	s.offers = slices.DeleteFunc(s.offers, func(known *offer) bool {
		return !s.rights.allow(toAdvertise, known.procedure)
	})
	return nil
}
