// Command {{name}} greets whoever says hello: hello.ada is answered by a message to greetings.ada.
package main

import (
	"context"

	"macula.host/macula"
)

// Greeting is what is published.
type Greeting struct {
	Text string `json:"text"`
}

func main() {
	var count int

	macula.Handle(func(ctx context.Context, msg *macula.Message) error {
		// greeting is set in macula.toml; this is what holds without it.
		greeting, err := macula.SettingOr("greeting", "Hello")
		if err != nil {
			return err
		}
		name := msg.Segment(1)
		if err := macula.PublishJSON(ctx, "greetings."+name, Greeting{greeting + ", " + name + "!"}); err != nil {
			return err
		}
		count++
		return nil
	})

	macula.HandleCall(func(context.Context, *macula.Request) ([]byte, error) {
		return macula.AnswerJSON(count)
	})
}
