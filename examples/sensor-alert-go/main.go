// Command sensor-alert-go publishes an alert when a room gets warmer than the threshold, and when it has cooled down
// again. Between the two it says nothing: a room is well again only below threshold - hysteresis, so that a temperature
// that wavers around the threshold makes one alert, not many.
package main

import (
	"context"
	"errors"
	"log/slog"

	"macula.host/macula"
)

func main() {
	var limits Limits
	rooms := Rooms{}

	macula.OnStart(func(context.Context, macula.StartReason) (err error) {
		if limits.Threshold, err = macula.SettingOr("threshold", 30.0); err != nil {
			return err
		}
		limits.Hysteresis, err = macula.SettingOr("hysteresis", 1.0)
		return err
	})

	macula.Handle(func(ctx context.Context, msg *macula.Message) error {
		celsius, err := reading(msg)
		if err != nil {
			return err
		}
		name := msg.Segment(1)
		change, err := rooms.Change(name, celsius, limits)
		if err != nil {
			return macula.Reject(err)
		}
		if change != "" {
			alert := Alert{Room: name, State: change, Celsius: celsius, Threshold: limits.Threshold}
			if err := macula.PublishJSON(ctx, "alerts."+name+".temperature", alert); err != nil {
				return err
			}
			slog.Info("alert "+string(change), "room", name, "celsius", celsius)
		}
		rooms.Record(name, celsius, change)
		return nil
	})

	macula.HandleCall(func(context.Context, *macula.Request) ([]byte, error) {
		return macula.AnswerJSON(rooms)
	})
}

// Alert is what is published.
type Alert struct {
	Room      string  `json:"room"`
	State     Change  `json:"state"`
	Celsius   float64 `json:"celsius"`
	Threshold float64 `json:"threshold"`
}

// reading reads what sensors send: 31.5 or {"celsius": 31.5}.
func reading(msg *macula.Message) (celsius float64, err error) {
	// A pointer, because null is read into a number without an error.
	var bare *float64
	if msg.JSON(&bare) == nil && bare != nil {
		return *bare, nil
	}
	var named struct {
		Celsius *float64 `json:"celsius"`
	}
	if err := msg.JSON(&named); err != nil {
		return 0, err
	}
	if named.Celsius == nil {
		return 0, macula.Reject(errors.New("a reading is 31.5 or {\"celsius\": 31.5}"))
	}
	return *named.Celsius, nil
}
