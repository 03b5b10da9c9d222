// Command tax-go says what tax a country adds to an amount. The rates are its settings; the arithmetic is another
// plugin's, in another language: calculator, wherever in the realm that runs.
package main

import (
	"context"
	"errors"
	"fmt"
	"math"

	"macula.host/macula"
)

func main() {
	macula.HandleCall(func(ctx context.Context, req *macula.Request) ([]byte, error) {
		var asked Question
		if err := req.JSON(&asked); err != nil {
			return nil, err
		}
		answer, err := taxOf(ctx, asked)
		if err != nil {
			return nil, err
		}
		return macula.AnswerJSON(answer)
	})
}

// Question is what tax.of is asked.
type Question struct {
	Country string  `json:"country"`
	Net     float64 `json:"net"`
}

// Answer is what tax.of answers.
type Answer struct {
	Rate  float64 `json:"rate"`
	Tax   float64 `json:"tax"`
	Gross float64 `json:"gross"`
}

func taxOf(ctx context.Context, asked Question) (answer Answer, err error) {
	if answer.Rate, err = rateOf(asked.Country); err != nil {
		return answer, err
	}
	if answer.Tax, err = compute(ctx, "math.mul", asked.Net, answer.Rate); err != nil {
		return answer, err
	}
	answer.Tax = cents(answer.Tax)
	if answer.Gross, err = compute(ctx, "math.add", asked.Net, answer.Tax); err != nil {
		return answer, err
	}
	answer.Gross = cents(answer.Gross)
	return answer, nil
}

func rateOf(country string) (float64, error) {
	setting := "rates." + country
	if _, known := macula.Setting(setting); !known {
		return 0, macula.Code("unknown-country", fmt.Errorf("there is no tax rate for %q", country))
	}
	return macula.SettingOr(setting, 0.0)
}

// compute asks the calculator. The context has the time left to our own caller, and the call never asks for more.
func compute(ctx context.Context, procedure string, numbers ...float64) (result float64, err error) {
	err = macula.CallJSON(ctx, procedure, numbers, &result)
	if errors.Is(err, macula.ErrNotRun) && errors.Is(err, macula.ErrNotFound) {
		return 0, macula.Code("no-calculator", fmt.Errorf("no calculator runs: %w", err))
	}
	return result, err
}

func cents(amount float64) float64 { return math.Round(amount*100) / 100 }
