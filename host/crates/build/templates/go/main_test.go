package main

import (
	"testing"

	"macula.host/macula/maculatest"
)

func TestGreetsByName(t *testing.T) {
	host := maculatest.Start(t, main)
	host.Deliver("hello.ada", "")
	if text := host.TakePublished()[0].Text(); text != `{"text":"Hello, ada!"}` {
		t.Errorf("published %s", text)
	}
	count, err := host.Call("{{name}}.count", "")
	if err != nil || string(count) != "1" {
		t.Errorf("answered %s, %v", count, err)
	}
}
