// Package maculatest runs a plugin in `go test`, without WebAssembly: the plugin's own main against a host in the same
// process.
//
// A [Host] is a host for one plugin. It has the plugin's manifest, and grants what that asks; the test delivers messages,
// makes calls, moves a virtual clock, and looks at what the plugin published, called and logged. It checks arguments as
// the contract says, so that a topic the manifest does not ask for is denied here as it is in production. Nothing is
// random, nothing waits.
//
//	func TestDoubles(t *testing.T) {
//		host := maculatest.Start(t, main)
//		host.Deliver("numbers.in", "21")
//		if got := host.TakePublished()[0].Text(); got != "42" {
//			t.Errorf("published %s", got)
//		}
//	}
//
// What it leaves out: queues and their limits, retries (a test sees the [macula.Disposition] and delivers again), and
// other plugins: a message that the plugin publishes comes to nobody, not even itself.
//
// # Time
//
// It begins at 2026-01-01, 00:00 UTC, and passes in [Host.Advance] only. A plugin sees it in [macula.Now], in the ticks of
// its timers, and in what expires. The deadlines of contexts are in real time, like everything of package time; inside
// [testing/synctest.Test] that is virtual as well.
//
// # Panics
//
// A handler's panic reaches the test, which fails by it. A test about panics recovers it, and goes on with [Host.Crash].
package maculatest
