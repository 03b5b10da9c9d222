package macula

import (
	"context"
	"log/slog"
	"slices"
	"unicode/utf8"
)

// Level is a log level of the host.
type Level uint8

// From least to most.
const (
	LevelTrace Level = iota
	LevelDebug
	LevelInfo
	LevelWarn
	LevelError
)

// Field is a named value of a log entry, to filter by.
type Field struct{ Name, Value string }

func (f Field) isInvalid() bool { return !utf8.ValidString(f.Name) || !utf8.ValidString(f.Value) }

// LogEnabled tells whether anybody would see this level now.
func LogEnabled(level Level) bool { return hostLogEnabled(level) }

// Log writes one entry. The host adds time, plugin, version, instance and trace. Target says where in the plugin. Bytes a
// second are a quota; what is above it is counted and dropped, never an error. Most plugins use log/slog, which comes
// here: slog.Info("ready", "room", room).
func Log(level Level, target, message string, fields ...Field) {
	if slices.ContainsFunc(fields, Field.isInvalid) {
		fields = slices.Clone(fields)
		for index, field := range fields {
			fields[index] = Field{valid(field.Name), valid(field.Value)}
		}
	}
	hostLog(level, valid(target), valid(message), fields)
}

// LogHandler is the [slog.Handler] that writes to the plugin's log. It is slog's default before main runs.
type LogHandler struct {
	prefix string
	fields []Field
}

var _ slog.Handler = LogHandler{}

// Enabled implements [slog.Handler].
func (LogHandler) Enabled(_ context.Context, level slog.Level) bool {
	return LogEnabled(levelOf(level))
}

// Handle implements [slog.Handler].
func (h LogHandler) Handle(_ context.Context, record slog.Record) error {
	fields := h.fields[:len(h.fields):len(h.fields)]
	record.Attrs(func(attr slog.Attr) bool {
		fields = appendAttr(fields, h.prefix, attr)
		return true
	})
	Log(levelOf(record.Level), "", record.Message, fields...)
	return nil
}

// WithAttrs implements [slog.Handler].
func (h LogHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	fields := h.fields[:len(h.fields):len(h.fields)]
	for _, attr := range attrs {
		fields = appendAttr(fields, h.prefix, attr)
	}
	return LogHandler{h.prefix, fields}
}

// WithGroup implements [slog.Handler].
func (h LogHandler) WithGroup(name string) slog.Handler {
	if name == "" {
		return h
	}
	return LogHandler{h.prefix + name + ".", h.fields}
}

func appendAttr(fields []Field, prefix string, attr slog.Attr) []Field {
	value := attr.Value.Resolve()
	if attr.Equal(slog.Attr{}) {
		return fields
	}
	if value.Kind() != slog.KindGroup {
		return append(fields, Field{prefix + attr.Key, value.String()})
	}
	if attr.Key != "" {
		prefix += attr.Key + "."
	}
	for _, inner := range value.Group() {
		fields = appendAttr(fields, prefix, inner)
	}
	return fields
}

func levelOf(level slog.Level) Level {
	switch {
	case level < slog.LevelDebug:
		return LevelTrace
	case level < slog.LevelInfo:
		return LevelDebug
	case level < slog.LevelWarn:
		return LevelInfo
	case level < slog.LevelError:
		return LevelWarn
	default:
		return LevelError
	}
}
