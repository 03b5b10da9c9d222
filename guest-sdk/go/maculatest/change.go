//go:build !wasip1

package maculatest

import (
	"maps"
	"strings"

	"macula.host/macula"
)

// SetConfig changes a setting, as an operator does. A plugin without OnConfigChange is replaced by a new instance, and
// one with OnRightsChange alone refuses. On an error the old setting is back.
//
// Errors: those of OnConfigChange, which refuse the change, or of the new instance.
func (h *Host) SetConfig(key, value string) error {
	h.t.Helper()
	before := h.state.setSetting(key, value)
	err := h.followConfig(key)
	if err != nil {
		h.state.setSettings(before)
	}
	return err
}

func (h *Host) followConfig(key string) error {
	h.t.Helper()
	if !h.plugin.FollowsConfig() {
		return h.Replace()
	}
	defer h.enter()()
	return h.plugin.ConfigChange([]string{key})
}

func (s *state) setSetting(key, value string) (before map[string]string) {
	defer s.lock()()
	before = s.settings
	s.settings = maps.Clone(before)
	s.settings[key] = value
	return before
}

func (s *state) setSettings(settings map[string]string) {
	defer s.lock()()
	s.settings = settings
}

// Allow grants a right, and tells the plugin.
func (h *Host) Allow(command, pattern string) {
	h.t.Helper()
	h.changeRights(command, pattern, true)
}

// Deny withdraws a right, ends what is no longer allowed, and tells the plugin.
func (h *Host) Deny(command, pattern string) {
	h.t.Helper()
	h.changeRights(command, pattern, false)
}

func (h *Host) changeRights(command, pattern string, allow bool) {
	h.t.Helper()
	defer h.enter()()
	if err := h.state.changeRights(command, pattern, allow); err != nil {
		h.t.Fatal(err)
	}
	h.plugin.RightsChange()
}

// Health asks what the plugin thinks of itself.
func (h *Host) Health() macula.Health {
	h.t.Helper()
	defer h.enter()()
	return h.plugin.Health()
}

// Replace replaces the instance as by a new version: main again, its start and health; the old one's snapshot, the new
// one's restore, the old one's stop. What the new one did not ask for again ends.
//
// Errors: those of the steps, and ErrOther when the new instance is unhealthy; the old one then works on.
func (h *Host) Replace() error {
	h.t.Helper()
	defer h.enter()()
	before := h.state.releaseClaims()
	old := h.plugin
	if err := h.takeOver(old); err != nil {
		h.plugin = old
		h.state.restoreClaims(before)
		return err
	}
	h.state.endUnclaimed()
	old.Stop(macula.StopReplaced, grace)
	return nil
}

func (h *Host) takeOver(old *macula.TestPlugin) error {
	h.newInstance()
	if err := h.plugin.Start(macula.StartReplacing); err != nil {
		return err
	}
	if health := h.plugin.Health().String(); strings.HasPrefix(health, "unhealthy") {
		return fault(macula.ErrOther, "%s", health)
	}
	snapshot, err := old.Snapshot()
	if err != nil {
		return err
	}
	return h.plugin.Restore(snapshot, h.state.manifest.version)
}

// Crash ends the instance as by a panic, and starts the next.
//
// Errors: those of its start.
func (h *Host) Crash() error {
	h.t.Helper()
	defer h.enter()()
	h.state.releaseClaims()
	h.newInstance()
	if err := h.plugin.Start(macula.StartRestarted); err != nil {
		return err
	}
	h.state.endUnclaimed()
	return nil
}

// Stop stops the plugin. Afterwards there is nothing more to be asked of it.
func (h *Host) Stop() {
	h.t.Helper()
	defer h.enter()()
	h.plugin.Stop(macula.StopStopped, grace)
	h.stopped = true
}
