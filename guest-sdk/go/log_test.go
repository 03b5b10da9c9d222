//go:build !wasip1

package macula

import (
	"context"
	"io"
	"log"
	"log/slog"
	"reflect"
	"testing"
	"time"
)

func TestSlogWritesToThePluginsLog(t *testing.T) {
	host := &stub{}
	before := slog.Default()
	within(host, func() {
		slog.Debug("plain")
		slog.Warn("attributes", "room", "kitchen", "celsius", 31.5)
		slog.With("a", 1).WithGroup("g").With("b", true).Error("groups", slog.Group("h", "c", "x"), slog.Group("", "d", 2))
		slog.Log(context.Background(), slog.LevelDebug-1, "below debug")
		slog.Info("empty", slog.Attr{}, slog.Group("nothing"))
		log.Print("package log")
	})
	expected := []entry{
		{LevelDebug, "", "plain", nil},
		{LevelWarn, "", "attributes", []Field{{"room", "kitchen"}, {"celsius", "31.5"}}},
		{LevelError, "", "groups", []Field{{"a", "1"}, {"g.b", "true"}, {"g.h.c", "x"}, {"g.d", "2"}}},
		{LevelTrace, "", "below debug", nil},
		{LevelInfo, "", "empty", nil},
		{LevelInfo, "", "package log", nil},
	}
	for index, entry := range host.logged {
		if !reflect.DeepEqual(entry, expected[index]) {
			t.Errorf("%+v, expected %+v", entry, expected[index])
		}
	}
	if len(host.logged) != len(expected) {
		t.Errorf("%d entries, expected %d", len(host.logged), len(expected))
	}
	if slog.Default() != before {
		t.Error("the test's own logger comes back")
	}
}

func TestLoggersThatShareFieldsDoNotOverwriteEachOther(t *testing.T) {
	host := &stub{}
	within(host, func() {
		base := slog.With("a", 1, "b", 2, "c", 3)
		left, right := base.With("side", "left"), base.With("side", "right")
		left.Info("x")
		right.Info("x")
	})
	for index, side := range []string{"left", "right"} {
		if fields := host.logged[index].fields; fields[len(fields)-1].Value != side {
			t.Errorf("%v, expected %s", fields, side)
		}
	}
}

func TestWhatNobodySeesIsNotFormatted(t *testing.T) {
	host := &stub{level: LevelWarn}
	within(host, func() {
		slog.Info("hidden")
		slog.Warn("seen")
		if LogEnabled(LevelInfo) || !LogEnabled(LevelError) {
			t.Error("from LevelWarn on")
		}
	})
	if len(host.logged) != 1 || host.logged[0].message != "seen" {
		t.Errorf("%+v", host.logged)
	}
}

func TestTheLogsTextsAreUTF8(t *testing.T) {
	host := &stub{}
	fields := []Field{{"good", "ä"}, {"bad", "\xff"}}
	within(host, func() { Log(LevelInfo, "", "got \xff", fields...) })
	if got := host.logged[0]; got.message != "got \uFFFD" || got.fields[1].Value != "\uFFFD" || got.fields[0].Value != "ä" {
		t.Errorf("%+q", got)
	}
	if fields[1].Value != "\xff" {
		t.Error("the caller's fields are the caller's")
	}
}

func TestOutsideAHostLoggingDoesNothing(t *testing.T) {
	if LogEnabled(LevelError) {
		t.Error("nobody would see it")
	}
	Log(LevelError, "", "nobody sees this")
	if before := time.Now(); Now().Before(before) {
		t.Error("the time is the real one")
	}
}

func TestThePluginsLoggerStaysBetweenHandlers(t *testing.T) {
	host := &stub{}
	plugin := NewTestPlugin(func() {
		slog.SetDefault(slog.New(slog.NewTextHandler(io.Discard, nil)))
		Handle(func(context.Context, *Message) error {
			slog.Info("into the void")
			return nil
		})
	}, host)
	plugin.Message(Message{})
	if len(host.logged) != 0 {
		t.Errorf("%+v", host.logged)
	}
}
