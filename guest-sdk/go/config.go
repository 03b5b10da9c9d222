package macula

import (
	"encoding/json"
	"fmt"
	"strconv"
	"time"
	"unicode/utf8"
)

// Setting gives one setting as text: the manifest's default, overridden by whoever runs the plugin. Keys are dotted paths
// ("alert.threshold"); numbers are as written, lists and tables are JSON. Within one handler settings do not change.
func Setting(key string) (text string, ok bool) {
	if !utf8.ValidString(key) {
		return "", false
	}
	return hostSetting(key)
}

// SettingOr gives one setting, or fallback when it is not set: a string, bool, number, or [time.Duration] as that of the
// fallback.
//
// Errors: ErrInvalid, naming the setting, when its text is not of that type: a wrong setting is never silently the
// fallback.
func SettingOr[T string | bool | int | int64 | uint32 | uint64 | float64 | time.Duration](key string, fallback T) (T, error) {
	text, ok := Setting(key)
	if !ok {
		return fallback, nil
	}
	value, err := parse(text, fallback)
	if err != nil {
		return fallback, &Error{Kind: ErrInvalid, Text: fmt.Sprintf("setting %s = %q: %v", key, text, err)}
	}
	return value, nil
}

func parse[T any](text string, like T) (T, error) {
	var value any
	var err error
	switch any(like).(type) {
	case string:
		value = text
	case bool:
		value, err = strconv.ParseBool(text)
	case int:
		value, err = strconv.Atoi(text)
	case int64:
		value, err = strconv.ParseInt(text, 10, 64)
	case uint32:
		var number uint64
		number, err = strconv.ParseUint(text, 10, 32)
		value = uint32(number)
	case uint64:
		value, err = strconv.ParseUint(text, 10, 64)
	case float64:
		value, err = strconv.ParseFloat(text, 64)
	case time.Duration:
		value, err = time.ParseDuration(text)
	}
	if err != nil {
		return like, err
	}
	return value.(T), nil
}

// SettingJSON reads one setting that is a list or a table into value; false when it is not set.
//
// Errors: ErrInvalid, naming the setting, when it is not of the form.
func SettingJSON(key string, value any) (ok bool, err error) {
	text, ok := Setting(key)
	if !ok {
		return false, nil
	}
	if err := json.Unmarshal([]byte(text), value); err != nil {
		return true, &Error{Kind: ErrInvalid, Text: fmt.Sprintf("setting %s = %s: %v", key, text, err)}
	}
	return true, nil
}

// Settings gives all settings.
func Settings() map[string]string { return hostSettings() }
