package main

import (
	"fmt"
	"slices"
	"testing"

	"macula.host/macula"
	"macula.host/macula/maculatest"
)

// The plugin against a host in the same process: what it publishes for which readings, and what it answers.

// alerts gives what was published for these readings of the kitchen.
func alerts(t *testing.T, host *maculatest.Host, readings ...string) (texts []string) {
	t.Helper()
	for _, reading := range readings {
		if got := host.Deliver("sensors.kitchen.temperature", reading); got.Kind != macula.DispositionAck {
			t.Fatalf("%s: %s", reading, got)
		}
	}
	for _, published := range host.TakePublished() {
		if published.Topic != "alerts.kitchen.temperature" || published.ContentType != "application/json" {
			t.Errorf("%+v", published)
		}
		texts = append(texts, published.Text())
	}
	return texts
}

func TestOneAlertWhenRisingAndOneWhenCooledDown(t *testing.T) {
	host := maculatest.Start(t, main)
	got := alerts(t, host, "29", "30", "30.5", "31", "29.5", "30.5", "29", "28.9", "20")
	expected := []string{
		`{"room":"kitchen","state":"raised","celsius":30.5,"threshold":30}`,
		`{"room":"kitchen","state":"cleared","celsius":28.9,"threshold":30}`,
	}
	if !slices.Equal(got, expected) {
		t.Errorf("%s, expected %s", got, expected)
	}
	logged := host.TakeLogged()
	if len(logged) != 2 || logged[0].Message != "alert raised" || logged[0].Field("room") != "kitchen" {
		t.Errorf("%+v", logged)
	}
}

func TestBothFormsOfAReadingAreUnderstood(t *testing.T) {
	host := maculatest.Start(t, main, maculatest.Config("threshold", "25"))
	if got := alerts(t, host, `{"celsius": 26}`, "20"); len(got) != 2 {
		t.Errorf("%s", got)
	}
	for _, malformed := range []string{"", "warm", `{"kelvin": 300}`, "[31]", "null", `{"celsius": null}`} {
		if got := host.Deliver("sensors.kitchen.temperature", malformed); got.Kind != macula.DispositionReject {
			t.Errorf("%s: %s", malformed, got)
		}
	}
}

func TestAWrongSettingIsAnErrorAndNotTheDefault(t *testing.T) {
	_, err := maculatest.TryStart(t, main, maculatest.Config("threshold", "hot"))
	const expected = `invalid: setting threshold = "hot": strconv.ParseFloat: parsing "hot": invalid syntax`
	if err == nil || err.Error() != expected {
		t.Errorf("%v, expected %s", err, expected)
	}
}

func TestASettingCanBeChanged(t *testing.T) {
	host := maculatest.Start(t, main)
	if err := host.SetConfig("threshold", "20"); err != nil {
		t.Fatal(err)
	}
	if got := alerts(t, host, "21"); len(got) != 1 {
		t.Errorf("%s", got)
	}
	if err := host.SetConfig("threshold", "hot"); err == nil {
		t.Error("a wrong setting is refused")
	}
}

func TestAnAlertThatWasNotSentIsSentWhenTheMessageComesAgain(t *testing.T) {
	host := maculatest.Start(t, main, maculatest.Deny("/mesh/publish", "**"))
	got := host.Deliver("sensors.kitchen.temperature", "40")
	const expected = "dead-letter: denied: /mesh/publish alerts.kitchen.temperature"
	if got.String() != expected {
		t.Errorf("%s, expected %s", got, expected)
	}
	host.Allow("/mesh/publish", "alerts.**")
	if got := alerts(t, host, "40"); len(got) != 1 {
		t.Errorf("%s", got)
	}
}

func TestTheSummaryHasEveryRoom(t *testing.T) {
	host := maculatest.Start(t, main)
	host.Deliver("sensors.hall.temperature", "18.5")
	host.Deliver("sensors.attic.temperature", "31")
	host.Deliver("sensors.hall.temperature", "21")
	got, err := host.Call("sensors.summary", "")
	const expected = `{"attic":{"min":31,"max":31,"last":31,"count":1,"alert":true},` +
		`"hall":{"min":18.5,"max":21,"last":21,"count":2,"alert":false}}`
	if err != nil || string(got) != expected {
		t.Errorf("%s, %v, expected %s", got, err, expected)
	}
}

func TestTheNumberOfRoomsIsBounded(t *testing.T) {
	host := maculatest.Start(t, main)
	for room := range RoomsMax {
		host.Deliver(fmt.Sprintf("sensors.room-%d.temperature", room), "20")
	}
	if got := host.Deliver("sensors.one-more.temperature", "20"); got.Kind != macula.DispositionReject {
		t.Errorf("%s", got)
	}
	if got := host.Deliver("sensors.room-0.temperature", "20"); got.Kind != macula.DispositionAck {
		t.Errorf("%s", got)
	}
}
