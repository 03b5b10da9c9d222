//go:build !wasip1

package maculatest

import "macula.host/macula"

// Option changes how a plugin starts: [Config], [Allow], [Deny], [Answer], [ManifestText].
type Option func(*setup)

// setup is what options say. They are applied in their order, after the manifest is read.
type setup struct {
	manifest *string
	changes  []func(*state) error
}

func (o *setup) add(change func(*state) error) { o.changes = append(o.changes, change) }

func (o *setup) apply(to *state) error {
	for _, change := range o.changes {
		if err := change(to); err != nil {
			return err
		}
	}
	return nil
}

// AnswerFunc answers what the plugin calls. Its error reaches the plugin as that of a handler would, see
// [macula.HandleCall]; a [*macula.CallError] as it is: the call failed on its way.
type AnswerFunc func(*macula.Request) ([]byte, error)

// ManifestText gives the manifest, in place of the file macula.toml.
func ManifestText(text string) Option { return func(o *setup) { o.manifest = &text } }

// Config gives a setting, over the manifest's default.
func Config(key, value string) Option {
	return func(o *setup) {
		o.add(func(s *state) error {
			s.settings[key] = value
			return nil
		})
	}
}

// Allow grants a right that the manifest does not ask for.
func Allow(command, pattern string) Option { return rule(command, pattern, true) }

// Deny denies a right that the manifest asks for: Deny("/mesh/publish", "alerts.**").
func Deny(command, pattern string) Option { return rule(command, pattern, false) }

func rule(command, pattern string, allow bool) Option {
	return func(o *setup) {
		o.add(func(s *state) error { return s.rights.rule(command, pattern, allow) })
	}
}

// Answer answers the plugin's calls of a procedure: see [Host.Answer].
func Answer(procedure string, answer AnswerFunc) Option {
	return func(o *setup) {
		o.add(func(s *state) error {
			s.answers[procedure] = answer
			return nil
		})
	}
}
