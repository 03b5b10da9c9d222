// Package toml reads the part of TOML that manifests use: keys of every form, strings on one line, integers, floats,
// booleans, arrays, tables, inline tables and arrays of tables. Everything else (dates, strings over several lines, inf
// and nan) is an error that names its line. It is here so that the SDK depends on nothing.
package toml

import (
	"fmt"
	"iter"
)

// Value is a value, and where it was written.
type Value struct {
	// Counted from 1.
	Line int
	// A string, int64, float64, bool, []Value or *Table.
	Data any
}

// Table is named values, in the order in which they were written.
type Table struct {
	keys   []string
	values map[string]Value
	origin origin
}

// origin is how a table came to be: that decides what may still be added to it.
type origin uint8

const (
	// By [a.b], which makes a: [a] may still come.
	implied origin = iota
	// By its own [header], or as one of an array of tables.
	headed
	// By a.b = 1, which makes a: a.c = 2 may still come.
	dotted
	// Between braces: nothing may come.
	inline
)

func newTable(origin origin) *Table { return &Table{values: make(map[string]Value), origin: origin} }

// All gives the values by key, in the order in which they were written.
func (t *Table) All() iter.Seq2[string, Value] {
	return func(yield func(string, Value) bool) {
		for _, key := range t.keys {
			if !yield(key, t.values[key]) {
				return
			}
		}
	}
}

// Get gives a value by its key.
func (t *Table) Get(key string) (value Value, ok bool) {
	value, ok = t.values[key]
	return value, ok
}

func (t *Table) set(key string, value Value) {
	if _, known := t.values[key]; !known {
		t.keys = append(t.keys, key)
	}
	t.values[key] = value
}

// Kind names what a value is, for errors.
func (v Value) Kind() string {
	switch v.Data.(type) {
	case string:
		return "a string"
	case int64:
		return "an integer"
	case float64:
		return "a float"
	case bool:
		return "a boolean"
	case []Value:
		return "an array"
	default:
		return "a table"
	}
}

// Error says what is wrong, and where.
type Error struct {
	// Counted from 1.
	Line int
	Text string
}

func (e *Error) Error() string { return fmt.Sprintf("line %d: %s", e.Line, e.Text) }
