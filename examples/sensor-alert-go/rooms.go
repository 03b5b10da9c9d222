package main

import "fmt"

// RoomsMax is how many rooms are remembered: whoever may publish readings must not fill the memory. Readings of further
// rooms are rejected.
const RoomsMax = 1_000

// Limits say when a room is too warm, and when it is well again.
type Limits struct{ Threshold, Hysteresis float64 }

// Change is that a room got too warm, or well again; empty for neither.
type Change string

const (
	// Raised: too warm.
	Raised Change = "raised"
	// Cleared: well again.
	Cleared Change = "cleared"
)

// Room is what is known of one room.
type Room struct {
	Min   float64 `json:"min"`
	Max   float64 `json:"max"`
	Last  float64 `json:"last"`
	Count uint64  `json:"count"`
	Alert bool    `json:"alert"`
}

// Rooms are all rooms by name.
type Rooms map[string]*Room

// Change says what a reading would change. It changes nothing yet, so that a message can be handled again when its alert
// was not sent.
func (r Rooms) Change(name string, celsius float64, limits Limits) (Change, error) {
	room, known := r[name]
	if !known && len(r) == RoomsMax {
		return "", fmt.Errorf("%s is one room more than %d", name, RoomsMax)
	}
	alert := known && room.Alert
	switch {
	case !alert && celsius > limits.Threshold:
		return Raised, nil
	case alert && celsius < limits.Threshold-limits.Hysteresis:
		return Cleared, nil
	default:
		return "", nil
	}
}

// Record takes a reading in.
func (r Rooms) Record(name string, celsius float64, change Change) {
	room, known := r[name]
	if !known {
		room = &Room{Min: celsius, Max: celsius}
		r[name] = room
	}
	room.Min = min(room.Min, celsius)
	room.Max = max(room.Max, celsius)
	room.Last = celsius
	room.Count++
	if change != "" {
		room.Alert = change == Raised
	}
}
