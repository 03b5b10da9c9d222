package toml

import (
	"fmt"
	"strings"
)

// scanner is how far a text has been read. What it does not understand it gives up with a panic of *Error, which [Parse]
// turns into its error.
type scanner struct {
	text string
	at   int
	line int
}

func (s *scanner) fail(format string, arguments ...any) { s.failAt(s.line, format, arguments...) }

func (s *scanner) failAt(line int, format string, arguments ...any) {
	panic(&Error{line, fmt.Sprintf(format, arguments...)})
}

func (s *scanner) atEnd() bool { return s.at == len(s.text) }

func (s *scanner) rest() string { return s.text[s.at:] }

// peek gives the next byte; 0 at the end, which no text may hold elsewhere.
func (s *scanner) peek() byte {
	if s.atEnd() {
		return 0
	}
	return s.text[s.at]
}

// take goes past a token, if it is what comes next.
func (s *scanner) take(token string) bool {
	if !strings.HasPrefix(s.rest(), token) {
		return false
	}
	s.at += len(token)
	return true
}

// takeWhile goes past all bytes of a kind.
func (s *scanner) takeWhile(is func(byte) bool) string {
	begin := s.at
	for !s.atEnd() && is(s.text[s.at]) {
		s.at++
	}
	return s.text[begin:s.at]
}

func (s *scanner) skipBlanks() {
	s.takeWhile(func(char byte) bool { return char == ' ' || char == '\t' })
}

func (s *scanner) newline() bool {
	if s.take("\n") || s.take("\r\n") {
		s.line++
		return true
	}
	return false
}

func (s *scanner) skipComment() {
	if s.peek() != '#' {
		return
	}
	s.takeWhile(func(char byte) bool { return char == '\t' || !isControl(char) })
}

// skipEmptyLines goes to what comes next, on this line or a later one.
func (s *scanner) skipEmptyLines() {
	for {
		s.skipBlanks()
		s.skipComment()
		if !s.newline() {
			return
		}
	}
}

// endLine goes past the end of a line, on which nothing else may be.
func (s *scanner) endLine() {
	s.skipBlanks()
	s.skipComment()
	if !s.newline() && !s.atEnd() {
		s.fail("expected the end of the line, found %s", s.found())
	}
}

// found shows what comes next, for errors.
func (s *scanner) found() string {
	line, _, _ := strings.Cut(s.rest(), "\n")
	if line == "" {
		return "its end"
	}
	const charactersMax = 20
	if characters := []rune(line); len(characters) > charactersMax {
		line = string(characters[:charactersMax]) + "…"
	}
	return fmt.Sprintf("%q", line)
}

// key reads a key's parts, and the blanks around it.
func (s *scanner) key() (parts []string) {
	for {
		s.skipBlanks()
		parts = append(parts, s.keyPart())
		s.skipBlanks()
		if !s.take(".") {
			return parts
		}
	}
}

func (s *scanner) keyPart() string {
	switch s.peek() {
	case '"':
		return s.basicString()
	case '\'':
		return s.literalString()
	}
	part := s.takeWhile(func(char byte) bool {
		return 'a' <= char && char <= 'z' || 'A' <= char && char <= 'Z' || '0' <= char && char <= '9' || char == '_' || char == '-'
	})
	if part == "" {
		s.fail("expected a key, found %s", s.found())
	}
	return part
}

func isControl(char byte) bool { return char < ' ' || char == 0x7F }
