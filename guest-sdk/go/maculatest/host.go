//go:build !wasip1

package maculatest

import (
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"macula.host/macula"
)

// The time a plugin has to shut down in tests.
const grace = 5 * time.Second

// Host is a host that runs one plugin: see the package. It is for the goroutine of its test. Parallel tests, each with a
// host of its own, take turns: one handler runs at a time.
type Host struct {
	t         testing.TB
	main      func()
	state     *state
	plugin    *macula.TestPlugin
	delivered uint64
	stopped   bool
	busy      atomic.Bool
}

// Start runs a plugin's main, with the manifest macula.toml of the current folder (under `go test`, the package's) and
// its settings and rights, changed by options. The test fails when the plugin does not start.
func Start(t testing.TB, main func(), options ...Option) *Host {
	t.Helper()
	host, err := TryStart(t, main, options...)
	if err != nil {
		t.Fatalf("the plugin does not start: %v", err)
	}
	return host
}

// TryStart is Start for tests about starts that fail. The host is nil then.
//
// Errors: what is wrong with the manifest, or has no handler; those of the plugin's start.
func TryStart(t testing.TB, main func(), options ...Option) (*Host, error) {
	t.Helper()
	o := &setup{}
	for _, option := range options {
		option(o)
	}
	text, err := o.manifestText()
	if err != nil {
		return nil, err
	}
	manifest, err := parseManifest(text)
	if err != nil {
		return nil, err
	}
	host := &Host{t: t, main: main, state: newState(manifest)}
	if err := o.apply(host.state); err != nil {
		return nil, err
	}
	host.newInstance()
	if err := host.state.checkHandlers(); err != nil {
		return nil, err
	}
	if err := host.plugin.Start(macula.StartFresh); err != nil {
		return nil, err
	}
	return host, nil
}

func (o *setup) manifestText() (string, error) {
	if o.manifest != nil {
		return *o.manifest, nil
	}
	text, err := os.ReadFile("macula.toml")
	if errors.Is(err, os.ErrNotExist) {
		return "", errors.New("there is no macula.toml in this folder; maculatest.ManifestText gives a manifest as text")
	}
	return string(text), err
}

// newInstance runs main. What it registers tells the host what the plugin handles; until then nothing is refused.
func (h *Host) newInstance() {
	h.state.setAbilities(abilities{message: true, call: true, timer: true})
	h.plugin = macula.NewTestPlugin(h.main, &instance{state: h.state})
	h.state.setAbilities(abilities{
		message: h.plugin.HandlesMessages(),
		call:    h.plugin.HandlesCalls(),
		timer:   h.plugin.HandlesTimers(),
	})
}

// checkHandlers finds what the manifest opens and no handler is for.
func (s *state) checkHandlers() error {
	switch {
	case !s.abilities.message && len(s.manifest.subscriptions) > 0:
		return errors.New("macula.toml has [[subscriptions]], but main calls neither Handle nor HandleTopic")
	case !s.abilities.call && len(s.manifest.procedures) > 0:
		return errors.New("macula.toml has [[procedures]], but main calls neither HandleCall nor HandleProcedure")
	default:
		return nil
	}
}

// enter begins what runs a handler; its function ends it. A handler cannot run inside another one.
func (h *Host) enter() (leave func()) {
	h.t.Helper()
	if h.stopped {
		h.t.Fatal("the plugin was stopped")
	}
	if !h.busy.CompareAndSwap(false, true) {
		h.t.Fatal("a handler of this plugin runs: an instance does one thing at a time")
	}
	return func() { h.busy.Store(false) }
}

// bytesOf gives a payload as the test wrote it.
func (h *Host) bytesOf(payload any) []byte {
	h.t.Helper()
	switch payload := payload.(type) {
	case nil:
		return nil
	case string:
		return []byte(payload)
	case []byte:
		return append([]byte(nil), payload...)
	default:
		h.t.Fatal(fmt.Sprintf("a payload is a string or []byte, not %T", payload))
		return nil
	}
}
