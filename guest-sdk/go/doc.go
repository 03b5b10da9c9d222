// Package macula is for writing mesh handlers in Go: WebAssembly components that a macula host runs.
//
// A plugin receives messages, answers calls, is woken by timers, and may do exactly what it was granted. It is a
// normal program: main says which handlers there are, and returns.
//
//	package main
//
//	import (
//		"context"
//
//		"macula.host/macula"
//	)
//
//	func main() {
//		macula.Handle(func(ctx context.Context, msg *macula.Message) error {
//			var number float64
//			if err := msg.JSON(&number); err != nil {
//				return err
//			}
//			return macula.PublishJSON(ctx, "numbers.doubled", number*2)
//		})
//	}
//
// The file macula.toml beside it is the manifest: what the plugin subscribes to, and which rights it asks for.
// `macula-host build` makes the component, with the Go toolchain and nothing else. Package maculatest runs the same
// main against a host in the same process, for `go test`.
//
// # Handlers
//
// An instance runs one handler at a time, so handlers share state without locks. A panic ends the instance; the next
// one begins with main again, and takes over the plugin's queue. There is one thread: what a handler starts with `go` runs
// only while a handler blocks, as in a WaitGroup or a channel. It does not run between handlers, nor while a handler waits
// in the host.
//
// # Errors
//
// A handler's error decides what becomes of the message or the call; Handle and HandleCall say how. Retry, RetryAfter,
// Reject, DeadLetter and Code say otherwise.
//
// # Contexts
//
// A handler's context carries the time left to it: a caller's patience, when it answers a call. Calls made with it never
// ask for more, and one made when it is over fails with ErrTimeout before it begins.
package macula
