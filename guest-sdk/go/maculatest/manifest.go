//go:build !wasip1

package maculatest

import (
	"fmt"

	"macula.host/macula/maculatest/internal/toml"
)

// manifest is what macula.toml says, as far as the host acts by it. As with the real host, a key that does not exist is
// an error.
type manifest struct {
	name, version string
	// Patterns by the command they ask for.
	asks          map[string][]string
	settings      map[string]string
	limits        limits
	subscriptions []string
	procedures    []string
}

// Of the limits, a test meets these two; the others are about memory, time and queues.
type limits struct{ timers, subscriptions int }

func defaultLimits() limits { return limits{timers: 256, subscriptions: 64} }

// What a name may be as a segment of topics.
const nameBytesMax = 63

// parseManifest reads a manifest, and refuses what a host would refuse.
func parseManifest(text string) (*manifest, error) {
	root, err := toml.Parse(text)
	if err != nil {
		return nil, fmt.Errorf("macula.toml, %w", err)
	}
	m := &manifest{asks: make(map[string][]string), settings: make(map[string]string), limits: defaultLimits()}
	if err := m.read(root); err != nil {
		return nil, fmt.Errorf("macula.toml, %w", err)
	}
	return m, nil
}

// section says how a key of the manifest is read.
type section struct {
	key  string
	read func(toml.Value) error
}

func (m *manifest) read(root *toml.Table) error {
	sections := []section{
		{"name", m.readName},
		{"version", func(value toml.Value) error { return readLine(value, 64, &m.version) }},
		{"description", func(value toml.Value) error { return readLine(value, 1_024, new(string)) }},
		{"subscribe", m.asksFor(toSubscribe)},
		{"publish", m.asksFor(toPublish)},
		{"advertise", m.asksFor(toAdvertise)},
		{"call", m.asksFor(toCall)},
		{"fetch", m.asksFor(toFetch)},
		{"config", m.readConfig},
		{"limits", m.readLimits},
		{"subscriptions", m.readSubscriptions},
		{"procedures", m.readProcedures},
	}
	if err := readTable(root, sections); err != nil {
		return err
	}
	return m.checkOpened(root)
}

// checkOpened holds what is opened at the start against what is asked for.
func (m *manifest) checkOpened(root *toml.Table) error {
	rights := m.rights()
	for index, pattern := range m.subscriptions {
		if !rights.allow(toSubscribe, pattern) {
			return elementError(root, "subscriptions", index, "[[subscriptions]] has %q, for which `subscribe` does not ask", pattern)
		}
	}
	for index, procedure := range m.procedures {
		if !rights.allow(toAdvertise, procedure) {
			return elementError(root, "procedures", index, "[[procedures]] has %q, for which `advertise` does not ask", procedure)
		}
	}
	return nil
}

func elementError(root *toml.Table, key string, index int, format string, arguments ...any) error {
	value, _ := root.Get(key)
	return malformed(value.Data.([]toml.Value)[index], format, arguments...)
}

func (m *manifest) readName(value toml.Value) error {
	if err := readText(value, &m.name); err != nil {
		return err
	}
	if !isCode(m.name) || len(m.name) > nameBytesMax {
		return malformed(value, "%q is no name of a plugin: 1 to 63 characters of [a-z0-9-]", m.name)
	}
	return nil
}

// asksFor reads the patterns of one command.
func (m *manifest) asksFor(command string) func(toml.Value) error {
	return func(value toml.Value) error {
		elements, err := elementsOf(value)
		if err != nil {
			return err
		}
		for _, element := range elements {
			var pattern string
			if err := readText(element, &pattern); err != nil {
				return err
			}
			if err := checkAsk(command, pattern); err != nil {
				return malformed(element, "%w", err)
			}
			m.asks[command] = append(m.asks[command], pattern)
		}
		return nil
	}
}

func checkAsk(command, pattern string) error {
	switch {
	case command == toFetch && pattern != "**" && checkContentID(pattern) != nil:
		return fmt.Errorf("%q is no content id; `fetch` takes ids, or \"**\" for all", pattern)
	case !isPattern(pattern):
		return fmt.Errorf("%q is not a pattern", pattern)
	case isReserved(pattern) && command != toSubscribe:
		return fmt.Errorf("%q begins with '_', and such names are the system's: they can only be subscribed to", pattern)
	default:
		return nil
	}
}

// rights are all that the manifest asks for.
func (m *manifest) rights() (granted rights) {
	for command, patterns := range m.asks {
		for _, pattern := range patterns {
			granted = append(granted, rightsRule{command, pattern, true})
		}
	}
	return granted
}
