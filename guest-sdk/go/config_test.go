//go:build !wasip1

package macula

import (
	"errors"
	"testing"
	"time"
)

func TestSettingsAreReadAsTheTypeOfTheFallback(t *testing.T) {
	settings := map[string]string{
		"text": "hot", "yes": "true", "whole": "-3", "big": "4294967296", "float": "1e3", "wait": "1m30s",
	}
	within(&stub{settings: settings}, func() {
		expect(t, "text", "", "hot")
		expect(t, "yes", false, true)
		expect(t, "whole", 0, -3)
		expect(t, "whole", int64(0), int64(-3))
		expect(t, "big", uint64(0), uint64(1)<<32)
		expect(t, "float", 0.0, 1000.0)
		expect(t, "wait", time.Duration(0), 90*time.Second)
		expect(t, "missing", uint32(7), uint32(7))
	})
}

func expect[T string | bool | int | int64 | uint32 | uint64 | float64 | time.Duration](t *testing.T, key string, fallback, expected T) {
	t.Helper()
	if got, err := SettingOr(key, fallback); err != nil || got != expected {
		t.Errorf("%s: %v, %v, expected %v", key, got, err, expected)
	}
}

func TestAWrongSettingIsAnErrorThatNamesIt(t *testing.T) {
	within(&stub{settings: map[string]string{"threshold": "hot", "big": "4294967296"}}, func() {
		got, err := SettingOr("threshold", 30.0)
		if got != 30 || !errors.Is(err, ErrInvalid) {
			t.Error(got, err)
		}
		const text = `invalid: setting threshold = "hot": strconv.ParseFloat: parsing "hot": invalid syntax`
		if err.Error() != text {
			t.Errorf("%q", err)
		}
		for name, err := range map[string]error{
			"int":      second(SettingOr("threshold", 1)),
			"bool":     second(SettingOr("threshold", true)),
			"duration": second(SettingOr("threshold", time.Second)),
			"uint32":   second(SettingOr("big", uint32(1))),
		} {
			if !errors.Is(err, ErrInvalid) {
				t.Errorf("%s: %v", name, err)
			}
		}
	})
}

func second[T any](_ T, err error) error { return err }

func TestListsAndTablesAreJSON(t *testing.T) {
	within(&stub{settings: map[string]string{"rooms": `["a","b"]`}}, func() {
		var rooms []string
		if ok, err := SettingJSON("rooms", &rooms); !ok || err != nil || len(rooms) != 2 {
			t.Error(ok, err, rooms)
		}
		if ok, err := SettingJSON("missing", &rooms); ok || err != nil {
			t.Error(ok, err)
		}
		var number int
		ok, err := SettingJSON("rooms", &number)
		if !ok || !errors.Is(err, ErrInvalid) {
			t.Error(ok, err)
		}
	})
}
