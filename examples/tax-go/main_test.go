package main

import (
	"encoding/json"
	"errors"
	"testing"
	"time"

	"macula.host/macula"
	"macula.host/macula/maculatest"
)

// The plugin against a host in the same process; the test is the calculator.

func multiply(req *macula.Request) ([]byte, error) {
	return folded(req, func(a, b float64) float64 { return a * b })
}
func add(req *macula.Request) ([]byte, error) {
	return folded(req, func(a, b float64) float64 { return a + b })
}

func folded(req *macula.Request, fold func(a, b float64) float64) ([]byte, error) {
	var numbers [2]float64
	if err := req.JSON(&numbers); err != nil {
		return nil, err
	}
	return json.Marshal(fold(numbers[0], numbers[1]))
}

func withCalculator(t *testing.T) *maculatest.Host {
	t.Helper()
	return maculatest.Start(t, main, maculatest.Answer("math.mul", multiply), maculatest.Answer("math.add", add))
}

// refused gives the error that a caller gets.
func refused(t *testing.T, host *maculatest.Host, question string) *macula.HandlerError {
	t.Helper()
	answer, err := host.Call("tax.of", question)
	var refusal *macula.HandlerError
	if !errors.As(err, &refusal) {
		t.Fatalf("answered %s, %v", answer, err)
	}
	return refusal
}

func TestTheTaxIsTheCountrysAndRoundedToCents(t *testing.T) {
	host := withCalculator(t)
	for question, expected := range map[string]string{
		`{"country": "DE", "net": 109.7}`: `{"rate":0.19,"tax":20.84,"gross":130.54}`,
		`{"country": "NL", "net": 109.7}`: `{"rate":0.21,"tax":23.04,"gross":132.74}`,
		`{"country": "DE", "net": 0}`:     `{"rate":0.19,"tax":0,"gross":0}`,
	} {
		if answer, err := host.Call("tax.of", question); err != nil || string(answer) != expected {
			t.Errorf("%s: %s, %v, expected %s", question, answer, err, expected)
		}
	}
}

func TestRatesAreSettings(t *testing.T) {
	host := withCalculator(t)
	if err := host.SetConfig("rates.DE", "0.16"); err != nil {
		t.Fatal(err)
	}
	const expected = `{"rate":0.16,"tax":16,"gross":116}`
	if answer, err := host.Call("tax.of", `{"country": "DE", "net": 100}`); err != nil || string(answer) != expected {
		t.Errorf("%s, %v, expected %s", answer, err, expected)
	}
	if err := host.SetConfig("rates.DE", "a fifth"); err != nil {
		t.Fatal(err)
	}
	if got := refused(t, host, `{"country": "DE", "net": 100}`); got.Code != "invalid" {
		t.Errorf("a wrong rate is an error, and not none: %v", got)
	}
}

func TestWhatCannotBeAnsweredHasACodeAndASentence(t *testing.T) {
	host := withCalculator(t)
	got := refused(t, host, `{"country": "XX", "net": 1}`)
	if got.Code != "unknown-country" || got.Message != `there is no tax rate for "XX"` {
		t.Errorf("%v", got)
	}
	if got := refused(t, host, `{"country": "DE", "net": "much"}`); got.Code != "bad-arguments" {
		t.Errorf("%v", got)
	}
	if called := host.TakeCalled(); len(called) > 0 {
		t.Errorf("the calculator is asked for what can be answered only: %v", called)
	}
}

func TestErrorsOfTheCalculatorAreHandedOn(t *testing.T) {
	host := maculatest.Start(t, main)
	if got := refused(t, host, `{"country": "DE", "net": 1}`); got.Code != "no-calculator" {
		t.Errorf("%v", got)
	}
	host.Answer("math.mul", func(*macula.Request) ([]byte, error) {
		return nil, &macula.HandlerError{Code: "overflow", Message: "too much"}
	})
	if got := refused(t, host, `{"country": "DE", "net": 1e308}`); got.Code != "overflow" || got.Message != "too much" {
		t.Errorf("%v", got)
	}
}

func TestTheCalculatorGetsTheTimeThatIsLeft(t *testing.T) {
	host := withCalculator(t)
	const patience = 300 * time.Millisecond
	_, err := host.CallRequest(macula.Request{
		Procedure: "tax.of", Payload: []byte(`{"country": "DE", "net": 1}`), TimeLeft: patience,
	})
	if err != nil {
		t.Fatal(err)
	}
	called := host.TakeCalled()
	if len(called) != 2 {
		t.Fatalf("%v", called)
	}
	for _, call := range called {
		if call.TimeLeft <= 0 || call.TimeLeft > patience {
			t.Errorf("%s may take %v", call.Procedure, call.TimeLeft)
		}
	}
}
