package toml

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
)

// plain gives a value without lines, for comparison.
func plain(data any) any {
	switch data := data.(type) {
	case *Table:
		values := map[string]any{}
		for key, value := range data.All() {
			values[key] = plain(value.Data)
		}
		return values
	case []Value:
		values := []any{}
		for _, value := range data {
			values = append(values, plain(value.Data))
		}
		return values
	default:
		return data
	}
}

type m = map[string]any

func TestWhatIsRead(t *testing.T) {
	for text, expected := range map[string]m{
		"":                                      {},
		"# only a comment":                      {},
		"a = 1 # why\r\nb = 2":                  {"a": int64(1), "b": int64(2)},
		"1-a_B = true":                          {"1-a_B": true},
		"\"a b\" = 1\n'c.d' = 2":                {"a b": int64(1), "c.d": int64(2)},
		"a . 'b' . \"c\" = false\na.d = 1":      {"a": m{"b": m{"c": false}, "d": int64(1)}},
		`a = "x\t\"\\\u00e9\U0001F600"`:         {"a": "x\t\"\\é😀"},
		`a = '\n"'`:                             {"a": `\n"`},
		`a = ""` + "\nb = ''":                   {"a": "", "b": ""},
		"a = [1, 2_000, +3, -4]":                {"a": []any{int64(1), int64(2000), int64(3), int64(-4)}},
		"a = [0x1F, 0o17, 0b1_1, 0]":            {"a": []any{int64(31), int64(15), int64(3), int64(0)}},
		"a = [1.5, -0.0e3, 2e2, 1_0.2_5, 3E-1]": {"a": []any{1.5, -0.0, 200.0, 10.25, 0.3}},
		"a = [\n # one\n 'x', # two\n\n 'y',\n] # three": {"a": []any{"x", "y"}},
		"a = [[1], ['b'], []]":                           {"a": []any{[]any{int64(1)}, []any{"b"}, []any{}}},
		"a = { b = 1, c.d = 'x', c.e = {} }":             {"a": m{"b": int64(1), "c": m{"d": "x", "e": m{}}}},
		"[a]\nb = 1\n[a.c.d]\ne = 2\n[a.c]\nf = 3":       {"a": m{"b": int64(1), "c": m{"d": m{"e": int64(2)}, "f": int64(3)}}},
		"[ a . 'b c' ]\nd = 1":                           {"a": m{"b c": m{"d": int64(1)}}},
		"[[a]]\nb = 1\n[[a]]\n[a.c]\nd = 2\n[[a.e]]":     {"a": []any{m{"b": int64(1)}, m{"c": m{"d": int64(2)}, "e": []any{m{}}}}},
		"a.b = 1\n[a.c]\nd = 2":                          {"a": m{"b": int64(1), "c": m{"d": int64(2)}}},
		"a = '\uFFFD ä'":                                 {"a": "\uFFFD ä"},
	} {
		root, err := Parse(text)
		if err != nil {
			t.Errorf("%q: %v", text, err)
		} else if got := plain(root); !reflect.DeepEqual(got, any(expected)) {
			t.Errorf("%q: %v, expected %v", text, got, expected)
		}
	}
}

func TestWhatIsNotReadIsAnErrorWithItsLine(t *testing.T) {
	for text, expected := range map[string]string{
		"a":                               `line 1: expected "=" after a key, found its end`,
		"\na = ":                          "line 2: expected a value, found its end",
		"= 1":                             `line 1: expected a key, found "= 1"`,
		"a. = 1":                          `line 1: expected a key, found "= 1"`,
		"a = 1 b = 2":                     `line 1: expected the end of the line, found "b = 2"`,
		"a = 1\n\na = 2":                  "line 3: a is there already, since line 1",
		"a = 1\na.b = 2":                  "line 2: a is no table to add to, since line 1",
		"[a]\n[a]":                        "line 2: a is there already, since line 1",
		"[a]\nb = 1\n[a.b]":               "line 3: b is there already, since line 2",
		"[a]\nb = 1\n[a.b.c]":             "line 3: b is no table to add to, since line 2",
		"[a.b]\n[a]\nb.c = 1":             "line 3: b is no table to add to, since line 1",
		"a.b = 1\n[a]":                    "line 2: a is there already, since line 1",
		"a = {}\n[a.b]":                   "line 2: a is no table to add to, since line 1",
		"a = { b.c = 1 }\na.b = 2":        "line 2: a is no table to add to, since line 1",
		"a = []\n[[a]]":                   "line 2: a is there already, since line 1",
		"a = [{}]\n[[a]]":                 "line 2: a is there already, since line 1",
		"[a]\n[[a]]":                      "line 2: a is there already, since line 1",
		"[[a]]\n[a]":                      "line 2: a is there already, since line 1",
		"[a":                              `line 1: expected "]" after a table's name, found its end`,
		"[[a]":                            `line 1: expected "]]" after a table's name, found "]"`,
		"[]":                              `line 1: expected a key, found "]"`,
		"[a] b":                           `line 1: expected the end of the line, found "b"`,
		"a = [1\n2]":                      `line 2: expected "," or "]" in an array, found "2]"`,
		"a = [,]":                         `line 1: expected a value, found ",]"`,
		"a = [1":                          `line 1: expected "," or "]" in an array, found its end`,
		"a = {b = 1":                      `line 1: expected "," or "}" in a table, found its end`,
		"a = {b = 1,}":                    `line 1: expected a key, found "}"`,
		"a = {b = 1\n}":                   `line 1: expected "," or "}" in a table, found its end`,
		"a = {b = 1, b = 2}":              "line 1: b is there already, since line 1",
		"a = \"x\nb\"":                    "line 1: a string does not end on its line",
		"a = 'x":                          "line 1: a string does not end on its line",
		`a = "\x"`:                        `line 1: unknown escape in a string: \"x\""`,
		`a = "\ud800"`:                    `line 1: \u and \U take the 4 hexadecimal digits of a character, found "d800\""`,
		`a = "\u12`:                       `line 1: \u and \U take the 4 hexadecimal digits of a character, found "12"`,
		`a = """x"""`:                     "line 1: strings over several lines are not read here",
		"a = '''x'''":                     "line 1: strings over several lines are not read here",
		"a = 1979-05-27":                  `line 1: "1979-05-27" is no value: a string, a number, true, false, an array or a table`,
		"a = inf":                         `line 1: "inf" is no value: a string, a number, true, false, an array or a table`,
		"a = 01":                          `line 1: "01" is no value: a string, a number, true, false, an array or a table`,
		"a = 1__0":                        `line 1: "1__0" is no value: a string, a number, true, false, an array or a table`,
		"a = .5":                          `line 1: ".5" is no value: a string, a number, true, false, an array or a table`,
		"a = 5.":                          `line 1: "5." is no value: a string, a number, true, false, an array or a table`,
		"a = True":                        `line 1: "True" is no value: a string, a number, true, false, an array or a table`,
		"a = 9223372036854775808":         "line 1: 9223372036854775808 does not fit into 64 bits",
		"a = 1e999":                       "line 1: 1e999 is no number of 64 bits",
		"a = 'x\x01'":                     "line 1: a string does not end on its line",
		"# \x01":                          `line 1: expected a key, found "\x01"`,
		"a = 1\n# \xff":                   "line 2: not UTF-8",
		"a = " + strings.Repeat("[", 100): "line 1: more than 64 arrays and tables in each other",
	} {
		_, err := Parse(text)
		if got := fmt.Sprint(err); got != expected {
			t.Errorf("%q:\n %s\nexpected\n %s", text, got, expected)
		}
	}
}

func TestValuesKnowTheirLinesAndOrder(t *testing.T) {
	root, err := Parse("z = 1\na = [\n 'x',\n 'y',\n]\n[[t]]\n[[t]]\nk = 0")
	if err != nil {
		t.Fatal(err)
	}
	var keys []string
	for key := range root.All() {
		keys = append(keys, key)
	}
	if strings.Join(keys, " ") != "z a t" {
		t.Error(keys)
	}
	array, _ := root.Get("a")
	tables, _ := root.Get("t")
	second := tables.Data.([]Value)[1]
	key, _ := second.Data.(*Table).Get("k")
	if array.Line != 2 || array.Data.([]Value)[1].Line != 4 || second.Line != 7 || key.Line != 8 {
		t.Error(array, tables, key)
	}
}

func FuzzParse(f *testing.F) {
	f.Add("[a]\nb.c = [1, {d = \"\\u0041\"}] # e\n[[f]]\n'g' = 0x1")
	f.Fuzz(func(t *testing.T, text string) {
		root, err := Parse(text)
		if (root == nil) == (err == nil) {
			t.Error(root, err)
		}
	})
}
