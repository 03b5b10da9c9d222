package macula

import (
	"context"
	"time"
)

// handlers are what main has registered.
type handlers struct {
	message       func(context.Context, *Message) error
	byTopic       bool
	topics        []topicHandler
	call          func(context.Context, *Request) ([]byte, error)
	procedures    map[string]func(context.Context, *Request) ([]byte, error)
	timer         func(context.Context, *Tick) error
	timers        map[string]func(context.Context, *Tick) error
	opening       []func(context.Context) error
	start         func(context.Context, StartReason) error
	health        func() Health
	stop          func(context.Context, StopReason)
	configChanged func(context.Context, []string) error
	rightsChanged func(context.Context)
	snapshot      func() ([]byte, error)
	restore       func(state []byte, version string) error
}

// topicHandler is a handler for the messages of one subscription.
type topicHandler struct {
	subscription uint32
	handle       func(context.Context, *Message) error
}

// registered is where main registers: one for each run of main.
var registered = &handlers{}

// Handle registers the handler of messages: those of the manifest's subscriptions, and of all that have no handler of
// their own ([HandleTopic]). Each message arrives at least once. What becomes of it is decided by the error:
//
//	nil                                                       done
//	DecodeError, errors of encoding/json and strconv          rejected: counted, logged and dropped
//	ErrInvalid, ErrTooLarge, HandlerError                     rejected
//	ErrDenied                                                 dead letter: replay it when the right is there
//	CallError with ErrMaybeRun                                dead letter: a retry could run it twice
//	any other Error                                           delivered again, after a growing delay
//	any other error                                           dead letter
//
// [Retry], [RetryAfter], [Reject] and [DeadLetter] say otherwise.
//
//go:noinline
func Handle(handler func(ctx context.Context, msg *Message) error) { registered.message = handler }

// HandleTopic subscribes to a pattern when the plugin starts, and handles its messages as [Handle] does.
//
//go:noinline
func HandleTopic(pattern string, handler func(ctx context.Context, msg *Message) error, options ...SubscribeOption) {
	h := registered
	h.byTopic = true
	h.opening = append(h.opening, func(ctx context.Context) error {
		subscription, err := Subscribe(ctx, pattern, options...)
		if err == nil {
			h.topics = append(h.topics, topicHandler{subscription.ID(), handler})
		}
		return err
	})
}

// HandleCall registers the handler of calls: of the manifest's procedures, and of all that have no handler of their own
// ([HandleProcedure]). The answer is at most 1 MiB. The caller gets an error as a [HandlerError], with a code:
//
//	HandlerError, also one of another call                    unchanged
//	Error                                                     its kind: "not-found", "denied", …
//	DecodeError, errors of encoding/json and strconv          "bad-arguments"
//	any other error                                           "failed"
//
// [Code] gives another code.
//
//go:noinline
func HandleCall(handler func(ctx context.Context, req *Request) ([]byte, error)) {
	registered.call = handler
}

// HandleProcedure offers a procedure when the plugin starts, and answers its calls as [HandleCall] does.
//
//go:noinline
func HandleProcedure(
	procedure string, handler func(ctx context.Context, req *Request) ([]byte, error), options ...AdvertiseOption,
) {
	if registered.procedures == nil {
		registered.procedures = make(map[string]func(context.Context, *Request) ([]byte, error))
	}
	registered.procedures[procedure] = handler
	registered.opening = append(registered.opening, func(ctx context.Context) error {
		_, err := Advertise(ctx, procedure, options...)
		return err
	})
}

// HandleTimer registers the handler of ticks that have no handler of their own ([HandleEvery]). An error is logged and
// counted; a timer that repeats goes on.
//
//go:noinline
func HandleTimer(handler func(ctx context.Context, tick *Tick) error) { registered.timer = handler }

// HandleEvery sets a repeating timer when the plugin starts, and handles its ticks as [HandleTimer] does.
//
//go:noinline
func HandleEvery(name string, period time.Duration, handler func(ctx context.Context, tick *Tick) error) {
	if registered.timers == nil {
		registered.timers = make(map[string]func(context.Context, *Tick) error)
	}
	registered.timers[name] = handler
	registered.opening = append(registered.opening, func(context.Context) error { return Every(name, period) })
}

// OnStart registers what runs once, first: read settings, subscribe, set timers. An error keeps the plugin from
// starting: ErrTimeout and ErrUnavailable are tried again with growing delays; all others stop a start, and roll a
// deployment back.
//
//go:noinline
func OnStart(start func(ctx context.Context, reason StartReason) error) { registered.start = start }

// OnHealth registers what tells how the plugin is: asked after the start and from time to time. Answer from memory,
// within 100 ms. Without it the plugin counts as healthy.
//
//go:noinline
func OnHealth(health func() Health) { registered.health = health }

// OnStop registers what runs once, last, when all taken messages are handled: write what must be kept. When the context
// is over the instance is ended. It does not run after a panic.
//
//go:noinline
func OnStop(stop func(ctx context.Context, reason StopReason)) { registered.stop = stop }

// OnConfigChange registers what follows changed settings, which [Setting] already gives. An error refuses the change.
// Without it, changed settings restart the instance; with [OnRightsChange] alone, they are refused until somebody does.
//
//go:noinline
func OnConfigChange(changed func(ctx context.Context, keys []string) error) {
	registered.configChanged = changed
}

// OnRightsChange registers what follows rights that were granted, withdrawn or have expired.
//
//go:noinline
func OnRightsChange(changed func(ctx context.Context)) { registered.rightsChanged = changed }

// KeepState hands memory over to the next version. snapshot gives the state as of the last handled message, at most
// 16 MiB; restore takes it over, after OnStart, with the plugin version that made it: write formats that the next
// version can read. An error of either calls the change off. So does a trap (a panic), which also loses the state when
// snapshot has it, as the instance ends with it. Messages wait meanwhile, so be quick; while either runs, the instance may
// have as much memory again as its limit, at least 64 MiB more, and 20 s.
//
//go:noinline
func KeepState(snapshot func() ([]byte, error), restore func(state []byte, version string) error) {
	registered.snapshot, registered.restore = snapshot, restore
}

// StartReason is why an instance begins.
type StartReason uint8

const (
	// StartFresh: nothing ran before.
	StartFresh StartReason = iota
	// StartRestarted: the instance before crashed, or the host was restarted.
	StartRestarted
	// StartReplacing: a new version takes over from one that still runs; restore follows.
	StartReplacing
	// StartResumed: back from being evicted while idle; restore follows.
	StartResumed
	// StartOther: another reason, of a later version of the contract.
	StartOther
)

// StopReason is why an instance ends.
type StopReason uint8

const (
	// StopReplaced: a new version has taken over.
	StopReplaced StopReason = iota
	// StopStopped: somebody stopped or removed the plugin.
	StopStopped
	// StopEvicted: idle; comes back with the next message.
	StopEvicted
	// StopHostStopping: the host stops.
	StopHostStopping
	// StopOther: another reason, of a later version of the contract.
	StopOther
)

// Health is how the plugin sees itself: make one with [Healthy], [Degraded] or [Unhealthy].
type Health struct {
	level healthLevel
	text  string
}

type healthLevel uint8

const (
	healthy healthLevel = iota
	degraded
	unhealthy
)

// Healthy says that all is well.
func Healthy() Health { return Health{} }

// Degraded says that the plugin works, but not as it should. Reported; nothing is done.
func Degraded(text string) Health { return Health{degraded, valid(text)} }

// Unhealthy says that the plugin does not work. A new version is not taken into service; a running instance is restarted
// after three in a row.
func Unhealthy(text string) Health { return Health{unhealthy, valid(text)} }

func (h Health) String() string {
	name := [...]string{"healthy", "degraded", "unhealthy"}[h.level]
	if h.text == "" {
		return name
	}
	return name + ": " + h.text
}

// begin runs the start: what is to be opened, then the plugin's own.
func (h *handlers) begin(ctx context.Context, reason StartReason) error {
	for _, open := range h.opening {
		if err := open(ctx); err != nil {
			return err
		}
	}
	if h.start == nil {
		return nil
	}
	return h.start(ctx, reason)
}

func (h *handlers) onMessage(ctx context.Context, msg *Message) Disposition {
	handle := h.message
	for _, topic := range h.topics {
		if topic.subscription == msg.Subscription {
			handle = topic.handle
			break
		}
	}
	if handle == nil {
		return Disposition{Kind: DispositionDeadLetter, Reason: "this plugin handles no messages: main calls neither Handle nor HandleTopic"}
	}
	return dispositionOf(handle(ctx, msg))
}

func (h *handlers) onHealth() Health {
	if h.health == nil {
		return Healthy()
	}
	return h.health()
}

func (h *handlers) onStop(ctx context.Context, reason StopReason) {
	if h.stop != nil {
		h.stop(ctx, reason)
	}
}

func (h *handlers) onConfigChange(ctx context.Context, keys []string) error {
	if h.configChanged == nil {
		// The component has a config handler for the sake of OnRightsChange. Saying nothing would say that the new
		// settings are in force.
		return &Error{Kind: ErrInvalid, Text: "this plugin reads changed settings only when it starts: main calls no OnConfigChange"}
	}
	return h.configChanged(ctx, keys)
}

func (h *handlers) onRightsChange(ctx context.Context) {
	if h.rightsChanged != nil {
		h.rightsChanged(ctx)
	}
}

func (h *handlers) onSnapshot() ([]byte, error) {
	if h.snapshot == nil {
		return nil, nil
	}
	return h.snapshot()
}

func (h *handlers) onRestore(state []byte, version string) error {
	if h.restore == nil {
		return nil
	}
	return h.restore(state, version)
}

func (h *handlers) onCall(ctx context.Context, req *Request) ([]byte, *HandlerError) {
	handle, ok := h.procedures[req.Procedure]
	if !ok {
		handle = h.call
	}
	if handle == nil {
		return nil, handlerErrorOf(UnknownProcedure(req.Procedure))
	}
	answer, err := handle(ctx, req)
	if err != nil {
		return nil, handlerErrorOf(err)
	}
	return answer, nil
}

func (h *handlers) onTimer(ctx context.Context, tick *Tick) error {
	handle, ok := h.timers[tick.Name]
	if !ok {
		handle = h.timer
	}
	if handle == nil {
		return &Error{Kind: ErrInvalid, Text: "no handler for timer " + tick.Name}
	}
	return handle(ctx, tick)
}
