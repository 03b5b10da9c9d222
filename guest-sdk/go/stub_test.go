//go:build !wasip1

package macula

import "time"

// stub is a host with settings, a log and a record of calls. What a test does not expect to be asked panics.
type stub struct {
	TestHost
	settings  map[string]string
	level     Level
	logged    []entry
	called    []CallOptions
	published []PublishOptions
}

type entry struct {
	level           Level
	target, message string
	fields          []Field
}

func (s *stub) Setting(key string) (string, bool) {
	text, ok := s.settings[key]
	return text, ok
}

func (s *stub) Settings() map[string]string { return s.settings }

func (s *stub) LogEnabled(level Level) bool { return level >= s.level }

func (s *stub) Log(level Level, target, message string, fields []Field) {
	s.logged = append(s.logged, entry{level, target, message, fields})
}

func (s *stub) Call(_ string, payload []byte, o *CallOptions) ([]byte, error) {
	if o == nil {
		o = &CallOptions{}
	}
	s.called = append(s.called, *o)
	return payload, nil
}

func (s *stub) Publish(_ string, _ []byte, o *PublishOptions) (Receipt, error) {
	if o == nil {
		o = &PublishOptions{}
	}
	s.published = append(s.published, *o)
	return Receipt{}, nil
}

func (s *stub) Now() time.Time { return time.UnixMilli(1) }

// within runs a test's code as a plugin's main.
func within(host TestHost, run func()) { NewTestPlugin(run, host) }
