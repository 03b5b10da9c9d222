// Command echo-go gives back what it gets: the least a plugin can do, to measure what a message and a call cost.
package main

import (
	"context"

	"macula.host/macula"
)

func main() {
	macula.Handle(func(ctx context.Context, msg *macula.Message) error {
		return macula.Publish(ctx, "bench.out", msg.Payload)
	})
	macula.HandleCall(func(_ context.Context, req *macula.Request) ([]byte, error) {
		return req.Payload, nil
	})
}
