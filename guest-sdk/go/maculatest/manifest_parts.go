//go:build !wasip1

package maculatest

import (
	"fmt"
	"slices"
	"strings"
	"unicode"

	"macula.host/macula/maculatest/internal/toml"
)

// The parts of a manifest, and how a value of each type is read.

// Nothing is ever full in tests, so all but the pattern is only checked.
func (m *manifest) readSubscriptions(value toml.Value) error {
	return readTables(value, "pattern", func(subscription *toml.Table) error {
		var pattern, whenFull string
		queue := 1
		err := readTable(subscription, []section{
			{"pattern", func(value toml.Value) error { return readName(value, isPattern, "pattern", m.subscriptions, &pattern) }},
			{"when-full", func(value toml.Value) error {
				if err := readText(value, &whenFull); err != nil {
					return err
				}
				if !slices.Contains([]string{"drop-oldest", "latest-only", "block"}, whenFull) {
					return malformed(value, "unknown variant `%s`, expected one of `drop-oldest`, `latest-only`, `block`", whenFull)
				}
				return nil
			}},
			{"queue-messages", func(value toml.Value) error { return readNumber(value, 1, waitingMax, &queue) }},
			{"retained", func(value toml.Value) error {
				if _, ok := value.Data.(bool); !ok {
					return malformed(value, "expected a boolean, found %s", value.Kind())
				}
				return nil
			}},
		})
		m.subscriptions = append(m.subscriptions, pattern)
		return err
	})
}

func (m *manifest) readProcedures(value toml.Value) error {
	return readTables(value, "procedure", func(procedures *toml.Table) error {
		var procedure string
		err := readTable(procedures, []section{
			{"procedure", func(value toml.Value) error { return readName(value, isTopic, "topic", m.procedures, &procedure) }},
		})
		m.procedures = append(m.procedures, procedure)
		return err
	})
}

func (m *manifest) readLimits(value toml.Value) error {
	table, ok := value.Data.(*toml.Table)
	if !ok {
		return malformed(value, "expected a table, found %s", value.Kind())
	}
	unused := new(int)
	limit := func(key string, from, to int, number *int) section {
		return section{key, func(value toml.Value) error { return readNumber(value, from, to, number) }}
	}
	return readTable(table, []section{
		limit("memory-mib", 1, 4_095, unused),
		limit("handler-ms", 10, 600_000, unused),
		limit("timers", 0, 65_536, &m.limits.timers),
		limit("subscriptions", 0, 4_096, &m.limits.subscriptions),
		limit("queue-messages", 1, waitingMax, unused),
		limit("log-bytes-per-s", 0, 16<<20, unused),
		limit("cpu-ms-per-s", 0, 64_000, unused),
		limit("publish-per-s", 0, 10_000_000, unused),
		limit("host-calls-per-s", 0, 100_000_000, unused),
		limit("evict-after-s", 0, 2_592_000, unused),
		limit("instances", 1, 64, unused),
	})
}

// readTable reads each key of a table by the section of its name.
func readTable(table *toml.Table, sections []section) error {
	for key, value := range table.All() {
		at := slices.IndexFunc(sections, func(known section) bool { return known.key == key })
		if at < 0 {
			var known []string
			for _, section := range sections {
				known = append(known, "`"+section.key+"`")
			}
			return malformed(value, "unknown field `%s`, expected one of %s", key, strings.Join(known, ", "))
		}
		if err := sections[at].read(value); err != nil {
			return err
		}
	}
	return nil
}

// readTables reads an array of tables, each of which must have a key.
func readTables(value toml.Value, key string, read func(*toml.Table) error) error {
	elements, err := elementsOf(value)
	if err != nil {
		return err
	}
	for _, element := range elements {
		table, ok := element.Data.(*toml.Table)
		if !ok {
			return malformed(element, "expected a table, found %s", element.Kind())
		}
		if _, ok := table.Get(key); !ok {
			return malformed(element, "missing field `%s`", key)
		}
		if err := read(table); err != nil {
			return err
		}
	}
	return nil
}

func elementsOf(value toml.Value) ([]toml.Value, error) {
	elements, ok := value.Data.([]toml.Value)
	if !ok {
		return nil, malformed(value, "expected an array, found %s", value.Kind())
	}
	return elements, nil
}

// readName reads a topic or pattern that is not among those read before.
func readName(value toml.Value, is func(string) bool, what string, before []string, name *string) error {
	if err := readText(value, name); err != nil {
		return err
	}
	if !is(*name) {
		return malformed(value, "%q is not a %s", *name, what)
	}
	if slices.Contains(before, *name) {
		return malformed(value, "%q is there twice", *name)
	}
	return nil
}

func readText(value toml.Value, text *string) error {
	read, ok := value.Data.(string)
	if !ok {
		return malformed(value, "expected a string, found %s", value.Kind())
	}
	*text = read
	return nil
}

func readLine(value toml.Value, bytesMax int, text *string) error {
	if err := readText(value, text); err != nil {
		return err
	}
	if len(*text) > bytesMax || strings.ContainsFunc(*text, unicode.IsControl) {
		return malformed(value, "expected one line of at most %d bytes", bytesMax)
	}
	return nil
}

func readNumber(value toml.Value, from, to int, number *int) error {
	read, ok := value.Data.(int64)
	if !ok {
		return malformed(value, "expected an integer, found %s", value.Kind())
	}
	if read < int64(from) || read > int64(to) {
		return malformed(value, "%d is outside %d to %d", read, from, to)
	}
	*number = int(read)
	return nil
}

func malformed(value toml.Value, format string, arguments ...any) error {
	return fmt.Errorf("line %d: %w", value.Line, fmt.Errorf(format, arguments...))
}
