//go:build !wasip1

package maculatest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"macula.host/macula"
)

// everything is a plugin with every handler. What it is told, it remembers, and gives to whoever calls every.seen.
func everything() {
	p := &plugin{}
	macula.OnStart(p.start)
	macula.OnHealth(func() macula.Health {
		if text, sick := macula.Setting("sick"); sick {
			return macula.Unhealthy(text)
		}
		return macula.Healthy()
	})
	macula.OnStop(func(ctx context.Context, reason macula.StopReason) {
		_, limited := ctx.Deadline()
		slog.Info("stop", "reason", reason, "limited", limited)
	})
	macula.Handle(p.message)
	macula.HandleTopic("topic.*", func(_ context.Context, msg *macula.Message) error {
		p.see("%s by topic", msg.Topic)
		return nil
	}, macula.QueueMessages(10), macula.NoRetained())
	macula.HandleCall(func(_ context.Context, req *macula.Request) ([]byte, error) {
		if req.Procedure == "every.seen" {
			return macula.AnswerJSON(p.seen)
		}
		return nil, macula.UnknownProcedure(req.Procedure)
	})
	macula.HandleProcedure("every.number", p.number, macula.InFlight(2), macula.Meta("kind", "test"))
	macula.HandleTimer(func(_ context.Context, tick *macula.Tick) error {
		p.see("%s %d", tick.Name, tick.DueMs%100_000)
		return errors.New("once is enough")
	})
	macula.HandleEvery("beat", time.Second, func(_ context.Context, tick *macula.Tick) error {
		p.see("beat %d", tick.DueMs%100_000)
		return nil
	})
	macula.OnConfigChange(func(_ context.Context, keys []string) error {
		if mood, _ := macula.Setting("mood"); mood == "bad" {
			return errors.New("no bad moods")
		}
		p.see("changed %q", keys)
		return nil
	})
	macula.OnRightsChange(func(context.Context) { p.see("rights") })
	macula.KeepState(
		func() ([]byte, error) { return json.Marshal(p.seen) },
		func(state []byte, version string) error {
			var before []string
			if err := json.Unmarshal(state, &before); err != nil {
				return err
			}
			p.seen = append(before, p.seen...)
			p.see("from %s", version)
			return nil
		},
	)
}

const everythingsManifest = `
name = "everything"
version = "1.2.3"
subscribe = ["in.**", "topic.*", "more.*", "out.*"]
publish = ["out.*"]
advertise = ["every.*"]
call = ["math.*", "every.*"]

[config]
mood = "fine"

[limits]
timers = 4
subscriptions = 4

[[subscriptions]]
pattern = "in.**"
when-full = "block"

[[procedures]]
procedure = "every.seen"
`

type plugin struct{ seen []string }

func (p *plugin) see(format string, arguments ...any) {
	p.seen = append(p.seen, fmt.Sprintf(format, arguments...))
}

func (p *plugin) start(_ context.Context, reason macula.StartReason) error {
	mood, err := macula.SettingOr("mood", "none")
	p.see("start %d %s", reason, mood)
	if _, fail := macula.Setting("fail"); fail {
		return &macula.Error{Kind: macula.ErrUnavailable, Text: "the moon"}
	}
	return err
}

func (p *plugin) number(_ context.Context, req *macula.Request) ([]byte, error) {
	var number float64
	if err := req.JSON(&number); err != nil {
		return nil, err
	}
	if number == 0 {
		return nil, macula.Code("Bad Code", errors.New("as asked"))
	}
	return macula.AnswerJSON(number)
}

// message does what a message's text says: deeds has what.
func (p *plugin) message(ctx context.Context, msg *macula.Message) error {
	p.see("%s %d#%d", msg.Topic, msg.Attempt, msg.Subscription)
	text, err := msg.Text()
	if err != nil {
		return err
	}
	deed, ok := deeds[text]
	if !ok {
		return macula.RetryAfter(2*time.Second, errors.New(text))
	}
	return deed(ctx, p)
}

var deeds = map[string]func(context.Context, *plugin) error{
	"nothing": func(context.Context, *plugin) error { return nil },
	"panic":   func(context.Context, *plugin) error { panic("as asked") },
	"may": func(_ context.Context, p *plugin) error {
		p.see("%t", macula.Can("/mesh/publish", "out.a"))
		return nil
	},
	"publish": func(ctx context.Context, p *plugin) error {
		receipt, err := macula.PublishAcked(ctx, "out.a", []byte("x"), macula.Retain(), macula.Meta("k", "v"))
		p.see("level %d", receipt.Level)
		return err
	},
	"publish elsewhere": func(ctx context.Context, _ *plugin) error { return macula.Publish(ctx, "elsewhere", nil) },
	"bad meta": func(ctx context.Context, _ *plugin) error {
		return macula.Publish(ctx, "out.a", nil, macula.Meta("Bad", "v"))
	},
	"retained": func(ctx context.Context, p *plugin) error {
		msg, err := macula.Retained(ctx, "out.a")
		if msg != nil {
			p.see("%s %t", msg.Payload, msg.Retained)
		}
		return err
	},
	"subscribe": func(ctx context.Context, p *plugin) error {
		subscription, err := macula.Subscribe(ctx, "more.*")
		if err == nil {
			p.see("%s %d", subscription.Pattern(), subscription.ID())
		}
		return err
	},
	"subscribe briefly": func(ctx context.Context, p *plugin) error {
		subscription, err := macula.Subscribe(ctx, "more.brief")
		if err == nil {
			subscription.Unsubscribe()
		}
		return err
	},
	"call": func(ctx context.Context, p *plugin) error {
		var sum int
		err := macula.CallJSON(ctx, "math.add", []int{1, 2}, &sum, macula.Timeout(time.Second), macula.IdempotencyKey("k"))
		p.see("sum %d", sum)
		return err
	},
	"call itself": func(ctx context.Context, _ *plugin) error {
		_, err := macula.Call(ctx, "every.number", nil)
		return err
	},
	"timer":     func(context.Context, *plugin) error { return macula.After("once", 1_500*time.Millisecond) },
	"old timer": func(context.Context, *plugin) error { return macula.After("now", 0) },
	"time":      func(_ context.Context, p *plugin) error { p.see("%d", macula.Now().UnixMilli()%100_000); return nil },
	"log": func(context.Context, *plugin) error {
		slog.Warn("warm", "room", "kitchen")
		slog.Debug("d")
		return nil
	},
	"goroutines": publishTogether,
}

// publishTogether publishes from goroutines, and waits for them as a handler has to.
func publishTogether(ctx context.Context, _ *plugin) error {
	const goroutines = 8
	errs := make(chan error)
	for range goroutines {
		go func() { errs <- macula.Publish(ctx, "out.a", []byte("x")) }()
	}
	var all []error
	for range goroutines {
		all = append(all, <-errs)
	}
	return errors.Join(all...)
}
