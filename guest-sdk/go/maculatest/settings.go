//go:build !wasip1

package maculatest

import (
	"encoding/json"
	"math"
	"strconv"
	"strings"

	"macula.host/macula/maculatest/internal/toml"
)

// readConfig reads the settings as a plugin sees them: tables become dotted keys, everything else text.
func (m *manifest) readConfig(value toml.Value) error {
	table, ok := value.Data.(*toml.Table)
	if !ok {
		return malformed(value, "expected a table, found %s", value.Kind())
	}
	m.flatten("", table)
	return nil
}

func (m *manifest) flatten(prefix string, table *toml.Table) {
	for key, value := range table.All() {
		switch data := value.Data.(type) {
		case *toml.Table:
			m.flatten(prefix+key+".", data)
		case string:
			m.settings[prefix+key] = data
		default:
			m.settings[prefix+key] = jsonOf(value)
		}
	}
}

// jsonOf writes a value as JSON. For numbers and booleans that is also their text.
func jsonOf(value toml.Value) string {
	switch data := value.Data.(type) {
	case string:
		return quoted(data)
	case int64:
		return strconv.FormatInt(data, 10)
	case float64:
		return floatText(data)
	case bool:
		return strconv.FormatBool(data)
	case []toml.Value:
		var elements []string
		for _, element := range data {
			elements = append(elements, jsonOf(element))
		}
		return "[" + strings.Join(elements, ",") + "]"
	default:
		var members []string
		for key, member := range data.(*toml.Table).All() {
			members = append(members, quoted(key)+":"+jsonOf(member))
		}
		return "{" + strings.Join(members, ",") + "}"
	}
}

// floatText writes a float as the host does: 30.0 stays one.
func floatText(number float64) string {
	text := strconv.FormatFloat(number, 'f', -1, 64)
	if number == math.Trunc(number) {
		text += ".0"
	}
	return text
}

func quoted(text string) string {
	var quoted strings.Builder
	encoder := json.NewEncoder(&quoted)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(text); err != nil {
		panic(err) // A string can always be written.
	}
	return strings.TrimSuffix(quoted.String(), "\n")
}
