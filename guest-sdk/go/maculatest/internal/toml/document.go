package toml

import (
	"strings"
	"unicode/utf8"
)

// Parse reads a document.
//
// Errors: [*Error], at the first line that is not understood.
func Parse(text string) (root *Table, err error) {
	s := &scanner{text: text, line: 1}
	root = newTable(headed)
	defer func() {
		switch failure := recover().(type) {
		case nil:
		case *Error:
			root, err = nil, failure
		default:
			panic(failure)
		}
	}()
	if at := invalidUTF8(text); at >= 0 {
		s.line += strings.Count(text[:at], "\n")
		s.fail("not UTF-8")
	}
	current := root
	for s.skipEmptyLines(); !s.atEnd(); s.skipEmptyLines() {
		switch {
		case s.take("[["):
			current = s.element(root)
		case s.take("["):
			current = s.table(root)
		default:
			s.pair(current, 0)
		}
		s.endLine()
	}
	return root, nil
}

func invalidUTF8(text string) int {
	for at, char := range text {
		if char == utf8.RuneError && !strings.HasPrefix(text[at:], "\uFFFD") {
			return at
		}
	}
	return -1
}

// table reads the rest of [a.b].
func (s *scanner) table(root *Table) *Table {
	line := s.line
	parent, name := s.header(root, "]")
	known, ok := parent.Get(name)
	if !ok {
		table := newTable(headed)
		parent.set(name, Value{line, table})
		return table
	}
	table, isTable := known.Data.(*Table)
	if !isTable || table.origin != implied {
		s.failAt(line, "%s is there already, since line %d", name, known.Line)
	}
	table.origin = headed
	parent.set(name, Value{line, table})
	return table
}

// element reads the rest of [[a.b]].
func (s *scanner) element(root *Table) *Table {
	line := s.line
	parent, name := s.header(root, "]]")
	table := newTable(headed)
	known, ok := parent.Get(name)
	if !ok {
		parent.set(name, Value{line, []Value{{line, table}}})
		return table
	}
	elements := elementsOf(known)
	if elements == nil {
		s.failAt(line, "%s is there already, since line %d", name, known.Line)
	}
	parent.set(name, Value{known.Line, append(elements, Value{line, table})})
	return table
}

// elementsOf gives an array made of [[headers]]; nil for anything else.
func elementsOf(value Value) []Value {
	elements, _ := value.Data.([]Value)
	if len(elements) == 0 {
		return nil
	}
	if table, ok := elements[0].Data.(*Table); !ok || table.origin != headed {
		return nil
	}
	return elements
}

// header reads a header's key, and gives the table that its last part belongs to.
func (s *scanner) header(root *Table, end string) (parent *Table, name string) {
	line := s.line
	parts := s.key()
	if !s.take(end) {
		s.fail("expected %q after a table's name, found %s", end, s.found())
	}
	parent = root
	for _, part := range parts[:len(parts)-1] {
		known, ok := parent.Get(part)
		if !ok {
			known = Value{line, newTable(implied)}
			parent.set(part, known)
		}
		if elements := elementsOf(known); elements != nil {
			known = elements[len(elements)-1]
		}
		table, isTable := known.Data.(*Table)
		if !isTable || table.origin == inline {
			s.failAt(line, "%s is no table to add to, since line %d", part, known.Line)
		}
		parent = table
	}
	return parent, parts[len(parts)-1]
}

// pair reads a.b = value, for a table that lies so deep in others.
func (s *scanner) pair(table *Table, depth int) {
	line := s.line
	parts := s.key()
	if !s.take("=") {
		s.fail("expected \"=\" after a key, found %s", s.found())
	}
	s.skipBlanks()
	value := s.value(depth)
	for _, part := range parts[:len(parts)-1] {
		known, ok := table.Get(part)
		if !ok {
			known = Value{line, newTable(dotted)}
			table.set(part, known)
		}
		inner, isTable := known.Data.(*Table)
		if !isTable || inner.origin != dotted {
			s.failAt(line, "%s is no table to add to, since line %d", part, known.Line)
		}
		table = inner
	}
	name := parts[len(parts)-1]
	if known, ok := table.Get(name); ok {
		s.failAt(line, "%s is there already, since line %d", name, known.Line)
	}
	table.set(name, value)
}
