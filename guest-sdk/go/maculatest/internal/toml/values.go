package toml

import (
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Arrays and inline tables may lie so deep in each other: enough for a manifest, and no text can exhaust the stack.
const depthMax = 64

func (s *scanner) value(depth int) Value {
	if depth == depthMax {
		s.fail("more than %d arrays and tables in each other", depthMax)
	}
	line := s.line
	switch {
	case s.peek() == '"':
		return Value{line, s.basicString()}
	case s.peek() == '\'':
		return Value{line, s.literalString()}
	case s.take("["):
		return Value{line, s.array(depth + 1)}
	case s.take("{"):
		return Value{line, s.inlineTable(depth + 1)}
	default:
		return Value{line, s.plain()}
	}
}

func (s *scanner) array(depth int) []Value {
	elements := []Value{}
	for {
		s.skipEmptyLines()
		if s.take("]") {
			return elements
		}
		elements = append(elements, s.value(depth))
		s.skipEmptyLines()
		if !s.take(",") && s.peek() != ']' {
			s.fail("expected \",\" or \"]\" in an array, found %s", s.found())
		}
	}
}

func (s *scanner) inlineTable(depth int) *Table {
	// Its dotted keys add to it; once it is read, it is closed.
	table := newTable(dotted)
	s.skipBlanks()
	for first := true; !s.take("}"); first = false {
		if !first && !s.take(",") {
			s.fail("expected \",\" or \"}\" in a table, found %s", s.found())
		}
		s.pair(table, depth)
		s.skipBlanks()
	}
	table.close()
	return table
}

func (t *Table) close() {
	t.origin = inline
	for _, value := range t.values {
		if inner, ok := value.Data.(*Table); ok {
			inner.close()
		}
	}
}

var (
	integers = regexp.MustCompile(`^[+-]?(0|[1-9](_?[0-9])*)$`)
	based    = regexp.MustCompile(`^(0x[0-9A-Fa-f](_?[0-9A-Fa-f])*|0o[0-7](_?[0-7])*|0b[01](_?[01])*)$`)
	floats   = regexp.MustCompile(`^[+-]?(0|[1-9](_?[0-9])*)(\.[0-9](_?[0-9])*)?([eE][+-]?[0-9](_?[0-9])*)?$`)
)

// plain reads a boolean or a number.
func (s *scanner) plain() any {
	word := s.takeWhile(func(char byte) bool { return !isControl(char) && !strings.ContainsRune(" ,]}#[{=\"'", rune(char)) })
	digits := strings.ReplaceAll(word, "_", "")
	switch {
	case word == "true", word == "false":
		return word == "true"
	case integers.MatchString(word):
		if number, err := strconv.ParseInt(digits, 10, 64); err == nil {
			return number
		}
		s.fail("%s does not fit into 64 bits", word)
	case based.MatchString(word):
		if number, err := strconv.ParseInt(digits, 0, 64); err == nil {
			return number
		}
		s.fail("%s does not fit into 64 bits", word)
	case floats.MatchString(word):
		if number, err := strconv.ParseFloat(digits, 64); err == nil {
			return number
		}
		s.fail("%s is no number of 64 bits", word)
	case word == "":
		s.fail("expected a value, found %s", s.found())
	}
	s.fail("%q is no value: a string, a number, true, false, an array or a table", word)
	return nil
}

func (s *scanner) literalString() string {
	if s.take("'''") {
		s.fail("strings over several lines are not read here")
	}
	s.take("'")
	text := s.takeWhile(func(char byte) bool { return char != '\'' && (char == '\t' || !isControl(char)) })
	if !s.take("'") {
		s.fail("a string does not end on its line")
	}
	return text
}

func (s *scanner) basicString() string {
	if s.take(`"""`) {
		s.fail("strings over several lines are not read here")
	}
	s.take(`"`)
	var text strings.Builder
	for {
		text.WriteString(s.takeWhile(func(char byte) bool {
			return char != '"' && char != '\\' && (char == '\t' || !isControl(char))
		}))
		switch {
		case s.take(`"`):
			return text.String()
		case s.take(`\`):
			text.WriteRune(s.escape())
		default:
			s.fail("a string does not end on its line")
		}
	}
}

func (s *scanner) escape() rune {
	char := s.peek()
	if strings.IndexByte(`btnfr"\uU`, char) < 0 {
		s.fail("unknown escape in a string: \\%s", s.found())
	}
	s.at++
	switch char {
	case 'b':
		return '\b'
	case 't':
		return '\t'
	case 'n':
		return '\n'
	case 'f':
		return '\f'
	case 'r':
		return '\r'
	case 'u':
		return s.codePoint(4)
	case 'U':
		return s.codePoint(8)
	default:
		return rune(char)
	}
}

func (s *scanner) codePoint(digits int) rune {
	rest := s.rest()
	number, err := strconv.ParseUint(rest[:min(digits, len(rest))], 16, 32)
	if err != nil || len(rest) < digits || number > utf8.MaxRune || !utf8.ValidRune(rune(number)) {
		s.fail("\\u and \\U take the %d hexadecimal digits of a character, found %s", digits, s.found())
	}
	s.at += digits
	return rune(number)
}
