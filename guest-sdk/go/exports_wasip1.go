package macula

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"runtime/debug"
	"time"
	"unsafe"
)

// What the host calls. macula-host leaves out of a component those whose handlers main does not register; it sees that
// in the names of the functions that were linked.

//go:linkname mainMain main.main
func mainMain()

func init() { slog.SetDefault(slog.New(LogHandler{})) }

var begun bool

// enter begins whatever the host calls, and main before the first. Deferred, its function ends it.
func enter() func() {
	if !begun {
		begun = true
		mainMain()
	}
	return leave
}

// leave logs a panic and ends the instance: the host starts the next one.
func leave() {
	if reason := recover(); reason != nil {
		Log(LevelError, "panic", fmt.Sprint(reason), Field{"stack", string(debug.Stack())})
		os.Exit(2)
	}
}

// answer is what the last handler has given the host: where it says so, and what that refers to. It stays until the next
// handler ends.
var answer struct {
	area [4]uint64
	kept [3][]byte
	text string
}

func answerArea() unsafe.Pointer { return unsafe.Pointer(&answer.area) }

func answerWith[T any](value T) unsafe.Pointer {
	*(*T)(answerArea()) = value
	return answerArea()
}

func keptText(text string) string {
	answer.text = text
	return text
}

// answerError gives a result<_, error>.
func answerError(err error) unsafe.Pointer {
	if err == nil {
		return answerWith(false)
	}
	var lowered struct {
		failed bool
		error  hostError
	}
	lowered.failed = true
	lowered.error.lower(hostErrorOf(err))
	return answerWith(lowered)
}

//go:wasmexport macula:plugin/lifecycle@0.1.0#init
func exportInit(reason uint32) unsafe.Pointer {
	defer enter()()
	return answerError(registered.begin(context.Background(), StartReason(reason)))
}

//go:wasmexport macula:plugin/lifecycle@0.1.0#health
func exportHealth() unsafe.Pointer {
	defer enter()()
	health := registered.onHealth()
	return answerWith(struct {
		level healthLevel
		text  list
	}{health.level, listOfText(keptText(health.text))})
}

//go:wasmexport macula:plugin/lifecycle@0.1.0#shutdown
func exportShutdown(reason, graceMs uint32) {
	defer enter()()
	grace := time.Duration(graceMs) * time.Millisecond
	registered.onStop(handlerContext{time.Now().Add(grace)}, StopReason(reason))
}

//go:wasmexport macula:plugin/message-handler@0.1.0#on-message
func exportMessage(
	topic unsafe.Pointer, topicLength uint32, payload unsafe.Pointer, payloadLength uint32,
	contentType unsafe.Pointer, contentTypeLength uint32, publisher unsafe.Pointer, publisherLength uint32,
	epoch, seq, timestampMs uint64, attempt uint32, retained bool, subscription uint32,
	metadata unsafe.Pointer, metadataLength uint32,
) unsafe.Pointer {
	defer enter()()
	taken := takeAll(
		given(topic, topicLength), given(payload, payloadLength),
		given(contentType, contentTypeLength), given(publisher, publisherLength),
	)
	msg := Message{
		Topic: text(taken[0]), Payload: taken[1], ContentType: text(taken[2]), Publisher: text(taken[3]),
		Epoch: epoch, Seq: seq, TimestampMs: timestampMs, Attempt: attempt, Retained: retained,
		Subscription: subscription, Metadata: given(metadata, metadataLength).metadata(),
	}
	incoming.release(mark{})
	return answerDisposition(registered.onMessage(context.Background(), &msg))
}

func answerDisposition(disposition Disposition) unsafe.Pointer {
	switch disposition.Kind {
	case DispositionAck:
		return answerWith(DispositionAck)
	case DispositionRetry:
		var retry struct {
			kind    DispositionKind
			some    uint32
			delayMs uint32
		}
		retry.kind = DispositionRetry
		if disposition.Delay != nil {
			retry.some = 1
			retry.delayMs = uint32(min(max(*disposition.Delay, 0)/time.Millisecond, 1<<32-1))
		}
		return answerWith(retry)
	default:
		return answerWith(struct {
			kind   DispositionKind
			reason list
		}{disposition.Kind, listOfText(keptText(disposition.Reason))})
	}
}

//go:wasmexport macula:plugin/call-handler@0.1.0#on-call
func exportCall(
	procedure unsafe.Pointer, procedureLength uint32, payload unsafe.Pointer, payloadLength uint32,
	contentType unsafe.Pointer, contentTypeLength uint32, caller unsafe.Pointer, callerLength uint32,
	timeLeftMs uint32, idempotencyKey unsafe.Pointer, idempotencyKeyLength uint32,
	metadata unsafe.Pointer, metadataLength uint32,
) unsafe.Pointer {
	defer enter()()
	timeLeft := time.Duration(timeLeftMs) * time.Millisecond
	ctx := handlerContext{time.Now().Add(timeLeft)}
	taken := takeAll(
		given(procedure, procedureLength), given(payload, payloadLength),
		given(contentType, contentTypeLength), given(caller, callerLength),
	)
	req := Request{
		Procedure: text(taken[0]), Payload: taken[1], ContentType: text(taken[2]), Caller: text(taken[3]),
		TimeLeft: timeLeft, IdempotencyKey: given(idempotencyKey, idempotencyKeyLength).text(),
		Metadata: given(metadata, metadataLength).metadata(),
	}
	incoming.release(mark{})
	bytes, failure := registered.onCall(ctx, &req)
	if failure != nil {
		answer.kept = [3][]byte{[]byte(failure.Code), []byte(failure.Message), failure.Data}
		return answerWith(struct {
			failed bool
			error  [3]list
		}{true, [3]list{listOf(answer.kept[0]), listOf(answer.kept[1]), listOf(answer.kept[2])}})
	}
	return answerBytes(bytes)
}

// answerBytes gives a result<list<u8>, _>.
func answerBytes(bytes []byte) unsafe.Pointer {
	answer.kept[0] = bytes
	return answerWith(struct {
		failed bool
		bytes  list
	}{false, listOf(bytes)})
}

//go:wasmexport macula:plugin/timer-handler@0.1.0#on-timer
func exportTimer(name unsafe.Pointer, nameLength uint32, dueMs uint64, missed uint32) unsafe.Pointer {
	defer enter()()
	tick := Tick{Name: given(name, nameLength).text(), DueMs: dueMs, Missed: missed}
	incoming.release(mark{})
	return answerError(registered.onTimer(context.Background(), &tick))
}

//go:wasmexport macula:plugin/config-handler@0.1.0#on-config-changed
func exportConfigChanged(keys unsafe.Pointer, keysLength uint32) unsafe.Pointer {
	defer enter()()
	var names []string
	for _, key := range unsafe.Slice((*list)(keys), keysLength) {
		names = append(names, key.text())
	}
	incoming.release(mark{})
	return answerError(registered.onConfigChange(context.Background(), names))
}

//go:wasmexport macula:plugin/config-handler@0.1.0#on-rights-changed
func exportRightsChanged() {
	defer enter()()
	registered.onRightsChange(context.Background())
}

//go:wasmexport macula:plugin/state-handler@0.1.0#snapshot
func exportSnapshot() unsafe.Pointer {
	defer enter()()
	state, err := registered.onSnapshot()
	if err != nil {
		return answerError(err)
	}
	return answerBytes(state)
}

//go:wasmexport macula:plugin/state-handler@0.1.0#restore
func exportRestore(state unsafe.Pointer, stateLength uint32, version unsafe.Pointer, versionLength uint32) unsafe.Pointer {
	defer enter()()
	bytes, from := given(state, stateLength).bytes(), given(version, versionLength).text()
	incoming.release(mark{})
	return answerError(registered.onRestore(bytes, from))
}

func given(at unsafe.Pointer, length uint32) list { return list{uint32(uintptr(at)), length} }

// takeAll copies what was given into one piece of Go memory. The parts cannot grow into each other.
func takeAll(lists ...list) [4][]byte {
	var total uint32
	for _, list := range lists {
		total += list.length
	}
	memory := make([]byte, total)
	var parts [4][]byte
	for index, list := range lists {
		length := copy(memory, list.view())
		parts[index] = memory[:length:length]
		memory = memory[length:]
	}
	return parts
}
