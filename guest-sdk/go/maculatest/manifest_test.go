//go:build !wasip1

package maculatest

import (
	"maps"
	"slices"
	"strings"
	"testing"
)

func TestSettingsAreTextUnderDottedKeys(t *testing.T) {
	m, err := parseManifest(`
[config]
a = 30.0
b.c = "x"
d = [1, "<two>", 2.5, [true], { e = 4.0 }]
big = 1_000_000
tiny = 1e-3
"odd key" = false
[config.e.f]
g = true
`)
	must(t, err)
	var got []string
	for _, key := range slices.Sorted(maps.Keys(m.settings)) {
		got = append(got, key+"="+m.settings[key])
	}
	equal(t, got, "a=30.0", "b.c=x", "big=1000000", `d=[1,"<two>",2.5,[true],{"e":4.0}]`, "e.f.g=true", "odd key=false", "tiny=0.001")
}

func TestEverythingAManifestMaySayIsUnderstood(t *testing.T) {
	m, err := parseManifest(`
name = "a-1"
version = "1"
description = "d"
subscribe = ["a.**", "_mesh.**"]
publish = []
advertise = ["p.*"]
call = []
fetch = ["**", "bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e"]
[config]
[limits]
memory-mib = 64
handler-ms = 5000
timers = 3
subscriptions = 2
queue-messages = 1024
log-bytes-per-s = 65536
cpu-ms-per-s = 100
publish-per-s = 1000
host-calls-per-s = 100000
evict-after-s = 60
instances = 1
[[subscriptions]]
pattern = "a.b"
when-full = "latest-only"
queue-messages = 5
retained = false
[[procedures]]
procedure = "p.q"
`)
	must(t, err)
	if m.name != "a-1" || m.version != "1" || m.limits != (limits{timers: 3, subscriptions: 2}) {
		t.Errorf("%+v", m)
	}
	equal(t, m.subscriptions, "a.b")
	equal(t, m.procedures, "p.q")
	empty, err := parseManifest("")
	if err != nil || empty.limits != defaultLimits() {
		t.Error(empty, err)
	}
}

func TestAWrongManifestIsAnErrorWithItsLine(t *testing.T) {
	for text, expected := range map[string]string{
		"a = ": "line 1: expected a value, found its end",
		"\n[[subscription]]\npattern = 'a'": "line 2: unknown field `subscription`, expected one of `name`, `version`, " +
			"`description`, `subscribe`, `publish`, `advertise`, `call`, `fetch`, `config`, `limits`, `subscriptions`, `procedures`",
		"[limits]\nmemory = 1": "line 2: unknown field `memory`, expected one of `memory-mib`, `handler-ms`, `timers`, " +
			"`subscriptions`, `queue-messages`, `log-bytes-per-s`, `cpu-ms-per-s`, `publish-per-s`, " +
			"`host-calls-per-s`, `evict-after-s`, `instances`",
		"[limits]\ntimers = '1'":                "line 2: expected an integer, found a string",
		"[limits]\ninstances = 65":              "line 2: 65 is outside 1 to 64",
		"limits = 1":                            "line 1: expected a table, found an integer",
		"config = []":                           "line 1: expected a table, found an array",
		"name = 'A'":                            `line 1: "A" is no name of a plugin: 1 to 63 characters of [a-z0-9-]`,
		"name = 1.5":                            "line 1: expected a string, found a float",
		"version = \"a\\nb\"":                   "line 1: expected one line of at most 64 bytes",
		"publish = 'a'":                         "line 1: expected an array, found a string",
		"publish = [\n true]":                   "line 2: expected a string, found a boolean",
		"publish = ['a..b']":                    `line 1: "a..b" is not a pattern`,
		"publish = ['_mesh.a']":                 `line 1: "_mesh.a" begins with '_', and such names are the system's: they can only be subscribed to`,
		"fetch = ['a']":                         "line 1: \"a\" is no content id; `fetch` takes ids, or \"**\" for all",
		"subscriptions = ['a']":                 "line 1: expected a table, found a string",
		"[[subscriptions]]":                     "line 1: missing field `pattern`",
		"[[subscriptions]]\npattern = 'a.**.b'": `line 2: "a.**.b" is not a pattern`,
		"[[subscriptions]]\npattern = 'a'\nwhen-full = 'now'":                                   "line 3: unknown variant `now`, expected one of `drop-oldest`, `latest-only`, `block`",
		"[[subscriptions]]\npattern = 'a'\nretained = 1":                                        "line 3: expected a boolean, found an integer",
		"[[subscriptions]]\npattern = 'a'\nqueue-messages = 0":                                  "line 3: 0 is outside 1 to 65536",
		"subscribe = ['a']\n[[subscriptions]]\npattern = 'a'\n[[subscriptions]]\npattern = 'a'": `line 5: "a" is there twice`,
		"subscribe = ['a']\n[[subscriptions]]\npattern = 'a.b'":                                 "line 2: [[subscriptions]] has \"a.b\", for which `subscribe` does not ask",
		"[[procedures]]\nprocedure = '*'":                                                       `line 2: "*" is not a topic`,
		"[[procedures]]\nprocedure = 'p'":                                                       "line 1: [[procedures]] has \"p\", for which `advertise` does not ask",
	} {
		_, err := parseManifest(text)
		if got := textOf(err); got != "macula.toml, "+expected {
			t.Errorf("%q:\n %s\nexpected\n %s", text, got, expected)
		}
	}
}

func TestAPatternCoversItsTopicsAndNarrowerPatterns(t *testing.T) {
	for _, pair := range []string{
		"a.b a.b", "a.* a.b", "a.* a.*", "a.** a.b.c", "a.** a.*.c", "a.** a.**", "** a", "sensors.** sensors.*.temperature",
		"_mesh.** _mesh.admin",
	} {
		if pattern, asked, _ := strings.Cut(pair, " "); !covers(pattern, asked) {
			t.Errorf("%s covers %s", pattern, asked)
		}
	}
	for _, pair := range []string{"a.b a.*", "a.* a.**", "a.** a", "a.* a.b.c", "a.b.c a.b", "** _mesh.admin", "* _x"} {
		if pattern, asked, _ := strings.Cut(pair, " "); covers(pattern, asked) {
			t.Errorf("%s does not cover %s", pattern, asked)
		}
	}
}

func TestMalformedNamesAreToldApart(t *testing.T) {
	if !isTopic("a.b-c.D_9") {
		t.Error("a topic")
	}
	for _, name := range []string{"", ".", "a..b", "a b", "a.*", "ä", strings.Repeat("x", 64), strings.Repeat("a.", 16) + "a"} {
		if isTopic(name) {
			t.Errorf("%q is no topic", name)
		}
	}
	for name, expected := range map[string]bool{"a.*.b": true, "**": true, "a.**": true, "a.**.b": false, "a.b*": false} {
		if isPattern(name) != expected {
			t.Error(name)
		}
	}
}

func TestTheLastWordOnARightCounts(t *testing.T) {
	var r rights
	for _, rule := range []rightsRule{
		{toPublish, "a.**", true}, {toPublish, "a.b", false}, {toPublish, "_mesh.**", true}, {toSubscribe, "_mesh.**", true},
	} {
		must(t, r.rule(rule.command, rule.pattern, rule.allow))
	}
	for target, expected := range map[string]bool{"a.c": true, "a.b": false, "b": false, "_mesh.x": false} {
		if r.allow(toPublish, target) != expected {
			t.Error(target)
		}
	}
	if !r.allow(toSubscribe, "_mesh.x") {
		t.Error("what is the system's can be subscribed to")
	}
}
