//go:build !wasip1

package maculatest

import (
	"fmt"
	"strings"

	"macula.host/macula"
)

// The commands that a manifest asks for.
const (
	toSubscribe = "/mesh/subscribe"
	toPublish   = "/mesh/publish"
	toAdvertise = "/mesh/advertise"
	toCall      = "/mesh/call"
	toFetch     = "/mesh/fetch"
)

// rights are the manifest's asks, all granted, plus and minus what the test says. The last word counts.
type rights []rightsRule

type rightsRule struct {
	command, pattern string
	allow            bool
}

// rule adds the last word so far.
func (r *rights) rule(command, pattern string, allow bool) error {
	if !strings.HasPrefix(command, "/mesh/") {
		return fmt.Errorf("%q is not a command such as /mesh/publish", command)
	}
	if !isPattern(pattern) {
		return fmt.Errorf("%q is not a pattern", pattern)
	}
	*r = append(*r, rightsRule{command, pattern, allow})
	return nil
}

// allow tells whether all of a target is allowed. What is the system's can be subscribed to, and nothing else.
func (r rights) allow(command, target string) bool {
	if isReserved(target) && command != toSubscribe {
		return false
	}
	for index := len(r) - 1; index >= 0; index-- {
		if rule := r[index]; rule.command == command && covers(rule.pattern, target) {
			return rule.allow
		}
	}
	return false
}

// check gives the error of what is not allowed.
func (r rights) check(command, target string) error {
	if r.allow(command, target) {
		return nil
	}
	return &macula.Error{Kind: macula.ErrDenied, Text: command + " " + target}
}
