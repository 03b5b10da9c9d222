package macula

import (
	"fmt"
	"unicode/utf8"
)

// checkName says whether the host takes what names something: it ends an instance that hands over what is no UTF-8. In
// names nothing is replaced, as in logs: that would name something else.
func checkName(what, name string) error {
	if utf8.ValidString(name) {
		return nil
	}
	return &Error{Kind: ErrInvalid, Text: fmt.Sprintf("%s %q: not UTF-8", what, name)}
}

// check says whether the host takes names and values.
func (m Metadata) check() error {
	for name, value := range m {
		if err := checkName("metadata", name); err != nil {
			return err
		}
		if err := checkName("metadata "+name, value); err != nil {
			return err
		}
	}
	return nil
}
