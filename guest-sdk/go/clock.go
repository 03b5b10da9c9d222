package macula

import "time"

// Now is the time. Use it rather than [time.Now], so that tests can set the time: there it is the virtual one.
func Now() time.Time { return hostNow() }
