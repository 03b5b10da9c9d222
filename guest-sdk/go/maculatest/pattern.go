//go:build !wasip1

package maculatest

import "strings"

// Topics and patterns, as the mesh reads them.

const (
	segmentsMax     = 16
	segmentBytesMax = 63
)

// isTopic tells whether this can be a topic: 1 to 16 segments of [A-Za-z0-9_-]{1,63}.
func isTopic(topic string) bool {
	segments := strings.Split(topic, ".")
	for _, segment := range segments {
		if !isLiteral(segment) {
			return false
		}
	}
	return len(segments) <= segmentsMax
}

// isPattern tells whether this can be a pattern: a topic in which * stands for one segment and a final ** for one or
// more.
func isPattern(pattern string) bool {
	segments := strings.Split(pattern, ".")
	for index, segment := range segments {
		isLast := index == len(segments)-1
		if segment != "*" && !(segment == "**" && isLast) && !isLiteral(segment) {
			return false
		}
	}
	return len(segments) <= segmentsMax
}

// covers tells whether every topic of asked (a topic or a pattern) is one of pattern. Names that begin with _ are the
// system's: no wildcard in front covers them.
func covers(pattern, asked string) bool {
	if isReserved(asked) && strings.HasPrefix(pattern, "*") {
		return false
	}
	segments := strings.Split(asked, ".")
	for _, part := range strings.Split(pattern, ".") {
		switch {
		case len(segments) == 0:
			return false
		case part == "**":
			return true
		case part == "*" && segments[0] != "**":
		case part != segments[0]:
			return false
		}
		segments = segments[1:]
	}
	return len(segments) == 0
}

// isReserved tells whether a name is the system's.
func isReserved(name string) bool { return strings.HasPrefix(name, "_") }

func isLiteral(segment string) bool {
	return 1 <= len(segment) && len(segment) <= segmentBytesMax && consistsOf(segment, func(char byte) bool {
		return 'a' <= char && char <= 'z' || 'A' <= char && char <= 'Z' || '0' <= char && char <= '9' || char == '_' || char == '-'
	})
}

// isCode tells whether this can be the code of an error or the name of metadata: 1 to 64 characters of [a-z0-9-].
func isCode(text string) bool {
	return 1 <= len(text) && len(text) <= 64 && consistsOf(text, func(char byte) bool {
		return 'a' <= char && char <= 'z' || '0' <= char && char <= '9' || char == '-'
	})
}

func consistsOf(text string, is func(byte) bool) bool {
	for _, char := range []byte(text) {
		if !is(char) {
			return false
		}
	}
	return true
}
