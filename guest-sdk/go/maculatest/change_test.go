//go:build !wasip1

package maculatest

import (
	"context"
	"errors"
	"testing"
	"time"

	"macula.host/macula"
)

func TestTimePassesOnlyWhenTheTestSays(t *testing.T) {
	host := started(t)
	acked(t, host, "timer", "time")
	begin := host.Now()
	if !begin.Equal(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)) {
		t.Error(begin)
	}
	if ticks, err := host.Advance(1_400 * time.Millisecond); ticks != 1 || err != nil {
		t.Error(ticks, err)
	}
	if ticks, err := host.Advance(600 * time.Millisecond); ticks != 2 || err == nil || err.Error() != "other: once is enough" {
		t.Error(ticks, err)
	}
	acked(t, host, "time")
	equal(t, seen(t, host, 2), "in.a 1#0", "0", "beat 1000", "once 1500", "beat 2000", "in.a 1#0", "2000")
	if passed := host.Now().Sub(begin); passed != 2*time.Second {
		t.Error(passed)
	}
	equal(t, host.Timers(), "beat")
}

func TestATimerThatIsDueTicksWhenTimePasses(t *testing.T) {
	host := started(t)
	acked(t, host, "old timer")
	if ticks, _ := host.Advance(0); ticks != 1 {
		t.Error(ticks)
	}
	equal(t, seen(t, host, 2), "now 0")
}

func TestTimersAreCheckedAndBounded(t *testing.T) {
	guest := &instance{state: started(t).state}
	for _, row := range []struct {
		name     string
		every    uint32
		expected string
	}{
		{"", 10, `invalid: timer name "": 1 to 64 bytes`},
		{"a", 9, "invalid: period of 9 ms: at least 10 ms"},
		{"a", 10, ""},
		{"b", 10, ""},
		{"c", 10, ""},
		{"d", 10, "quota exceeded: 4 timers"},
		{"a", 20, ""},
	} {
		if got := textOf(guest.Every(row.name, row.every)); got != row.expected {
			t.Errorf("%q, expected %q", got, row.expected)
		}
	}
	if !guest.CancelTimer("a") || guest.CancelTimer("a") {
		t.Error("a timer is cancelled once")
	}
}

func TestTheSamePeriodKeepsItsRhythm(t *testing.T) {
	timers := timerTable{}
	for _, nowMs := range []uint64{0, 60} {
		if err := timers.every("a", nowMs, 100, 1); err != nil {
			t.Fatal(err)
		}
	}
	if tick, ok := timers.takeDue(250); !ok || tick.DueMs != 100 {
		t.Error(tick, ok)
	}
	if err := timers.every("a", 120, 50, 1); err != nil {
		t.Fatal(err)
	}
	if tick, ok := timers.takeDue(250); !ok || tick.DueMs != 170 {
		t.Error(tick, ok)
	}
}

func TestSettingsCanBeChangedAndRefused(t *testing.T) {
	host := started(t)
	if err := host.SetConfig("mood", "bad"); err == nil || err.Error() != "other: no bad moods" {
		t.Error(err)
	}
	if err := host.SetConfig("other", "x"); err != nil {
		t.Errorf("the bad mood is gone: %v", err)
	}
	equal(t, seen(t, host, 1), `changed ["other"]`)
}

// Its component has a config handler, so the host asks: nothing may look as if the new settings were in force.
func TestAPluginThatFollowsRightsAloneRefusesSettings(t *testing.T) {
	main := func() {
		macula.OnRightsChange(func(context.Context) {})
		macula.HandleCall(func(context.Context, *macula.Request) ([]byte, error) {
			mood, _ := macula.Setting("mood")
			return []byte(mood), nil
		})
	}
	host := Start(t, main, ManifestText("name = 'p'\nadvertise = ['a']\n[config]\nmood = 'good'\n[[procedures]]\nprocedure = 'a'"))
	if err := host.SetConfig("mood", "bad"); !errors.Is(err, macula.ErrInvalid) {
		t.Errorf("%v", err)
	}
	if mood, err := host.Call("a", ""); err != nil || string(mood) != "good" {
		t.Errorf("%s, %v", mood, err)
	}
}

func TestAPluginThatDoesNotFollowSettingsIsStartedAnew(t *testing.T) {
	main := func() {
		var threshold float64
		macula.OnStart(func(context.Context, macula.StartReason) (err error) {
			threshold, err = macula.SettingOr("threshold", 30.0)
			return err
		})
		macula.HandleProcedure("t", func(context.Context, *macula.Request) ([]byte, error) {
			return macula.AnswerJSON(threshold)
		})
	}
	host := Start(t, main, ManifestText("advertise = ['t']"))
	must(t, host.SetConfig("threshold", "20"))
	if err := host.SetConfig("threshold", "hot"); !errors.Is(err, macula.ErrInvalid) {
		t.Error(err)
	}
	must(t, host.Replace())
	if answer, err := host.Call("t", nil); string(answer) != "20" {
		t.Errorf("the wrong setting is gone: %s, %v", answer, err)
	}
	equal(t, host.Offers(), "t")
}

func TestANewVersionTakesStateAndSubscriptionsOver(t *testing.T) {
	host := started(t)
	acked(t, host, "subscribe")
	host.TakeLogged()
	if err := host.Replace(); err != nil {
		t.Fatal(err)
	}
	equal(t, seen(t, host, 0), "start 0 fine", "in.a 1#0", "more.* 2", "start 2 fine", "from 1.2.3")
	equal(t, host.Subscriptions(), "in.**", "topic.*")
	logged := host.TakeLogged()
	if len(logged) != 1 || logged[0].Message != "stop" || logged[0].Field("reason") != "0" || logged[0].Field("limited") != "true" {
		t.Errorf("%+v", logged)
	}
	if got := host.Deliver("topic.x", ""); got.Kind != macula.DispositionAck {
		t.Error(got)
	}
	if err := host.Crash(); err != nil {
		t.Fatal(err)
	}
	equal(t, seen(t, host, 0), "start 1 fine")
	equal(t, host.Timers(), "beat")
	host.Stop()
	if logged := host.TakeLogged(); len(logged) != 1 || logged[0].Field("reason") != "1" {
		t.Errorf("%+v", logged)
	}
}

func TestAReplacementThatFailsLeavesTheOldOneAtWork(t *testing.T) {
	host := started(t)
	acked(t, host, "subscribe")
	host.state.setSetting("sick", "of it")
	if err := host.Replace(); err == nil || err.Error() != "other: unhealthy: of it" {
		t.Error(err)
	}
	if health := host.Health().String(); health != "unhealthy: of it" {
		t.Error(health)
	}
	host.state.setSetting("fail", "yes")
	if err := host.Replace(); !errors.Is(err, macula.ErrUnavailable) {
		t.Error(err)
	}
	equal(t, host.Subscriptions(), "in.**", "topic.*", "more.*")
	equal(t, seen(t, host, 0), "start 0 fine", "in.a 1#0", "more.* 2")
}

func TestTheLogIsKept(t *testing.T) {
	host := started(t)
	acked(t, host, "log")
	host.SetLogLevel(macula.LevelWarn)
	acked(t, host, "log")
	logged := host.TakeLogged()
	if len(logged) != 3 || logged[0].Level != macula.LevelWarn || logged[0].Field("room") != "kitchen" || logged[1].Level != macula.LevelDebug || logged[0].Field("x") != "" {
		t.Errorf("%+v", logged)
	}
}

func TestThePluginKnowsWhoItIs(t *testing.T) {
	var trace macula.TraceContext
	main := func() {
		macula.HandleProcedure("who", func(context.Context, *macula.Request) ([]byte, error) {
			trace, _ = macula.Trace()
			return macula.AnswerJSON([]any{
				macula.PluginName(), macula.PluginVersion(), macula.Realm(), macula.Instance().Count, macula.Component(),
				macula.Can("/mesh/advertise", "who"), macula.Can("/mesh/advertise", "w ho"), macula.Settings(),
			})
		})
	}
	host := Start(t, main, ManifestText("name = 'me'\nversion = '2'\nadvertise = ['who']\nconfig.a.b = 1"))
	host.SetTrace(&macula.TraceContext{Traceparent: "00-a-b-01"})
	answer, err := host.Call("who", nil)
	expected := `["me","2","local.dev",1,"` + contentID([]byte("me")) + `",true,false,{"a.b":"1"}]`
	if string(answer) != expected || err != nil || trace.Traceparent != "00-a-b-01" {
		t.Errorf("%s, %v, %v", answer, err, trace)
	}
}
