//go:build !wasip1

package maculatest

import (
	"bytes"
	"cmp"
	"errors"
	"maps"
	"slices"
	"time"

	"macula.host/macula"
)

const callTimeoutMax = 10 * time.Minute

func (i *instance) Call(procedure string, payload []byte, o *macula.CallOptions) ([]byte, error) {
	if o == nil {
		o = &macula.CallOptions{Timeout: macula.CallTimeout}
	}
	if err := checkCall(procedure, payload, o); err != nil {
		return nil, notRun(err)
	}
	request := &macula.Request{
		Procedure: procedure, Payload: bytes.Clone(payload), ContentType: o.ContentType, Caller: principal,
		TimeLeft: o.Timeout, IdempotencyKey: o.IdempotencyKey, Metadata: maps.Clone(o.Metadata),
	}
	answer, err := i.answerOf(request)
	if err != nil {
		return nil, notRun(err)
	}
	// The test's own code runs with nothing locked: it may look at the host.
	bytes, err := answer(request)
	if err != nil {
		return nil, callFailure(err)
	}
	if len(bytes) > payloadBytesMax {
		return nil, &macula.CallError{Outcome: macula.ErrMaybeRun, Cause: tooLarge(payloadBytesMax)}
	}
	return bytes, nil
}

func checkCall(procedure string, payload []byte, o *macula.CallOptions) error {
	if err := cmp.Or(checkTopic(procedure), checkPayload(payload)); err != nil {
		return err
	}
	if o.Timeout < time.Millisecond || o.Timeout > callTimeoutMax {
		return invalid("timeout of %d ms: 1 ms to 10 min", o.Timeout.Milliseconds())
	}
	if len(o.IdempotencyKey) > idempotencyKeyBytesMax {
		return invalid("idempotency key: at most 64 bytes")
	}
	return cmp.Or(checkContentType(o.ContentType), checkMetadata(o.Metadata))
}

// answerOf keeps a call for the test to look at, and finds who answers it.
func (s *state) answerOf(request *macula.Request) (AnswerFunc, error) {
	defer s.lock()()
	if err := s.rights.check(toCall, request.Procedure); err != nil {
		return nil, err
	}
	kept := *request
	kept.Payload, kept.Metadata = bytes.Clone(request.Payload), maps.Clone(request.Metadata)
	s.called = append(s.called, kept)
	if answer, ok := s.answers[request.Procedure]; ok {
		return answer, nil
	}
	if slices.ContainsFunc(s.offers, func(known *offer) bool { return known.procedure == request.Procedure }) {
		return nil, fault(macula.ErrUnavailable, "only the instance that calls offers %s", request.Procedure)
	}
	return nil, fault(macula.ErrNotFound, "nobody offers %s", request.Procedure)
}

func notRun(cause error) error { return &macula.CallError{Outcome: macula.ErrNotRun, Cause: cause} }

// callFailure gives what the plugin sees of an answer's error.
func callFailure(err error) error {
	var failure *macula.CallError
	if errors.As(err, &failure) {
		return failure
	}
	return macula.TestFailure(err)
}

func (i *instance) Advertise(procedure string, o *macula.AdvertiseOptions) (handle int32, err error) {
	if err := checkTopic(procedure); err != nil {
		return 0, err
	}
	if o != nil {
		if err := checkMetadata(o.Metadata); err != nil {
			return 0, err
		}
		if o.InFlightMax > waitingMax {
			return 0, invalid("%d calls in flight: 1 to 65,536", o.InFlightMax)
		}
	}
	defer i.lock()()
	if !i.abilities.call {
		return 0, invalid("an offer needs a call handler")
	}
	if err := i.rights.check(toAdvertise, procedure); err != nil {
		return 0, err
	}
	if err := i.claimOffer(procedure); err != nil {
		return 0, err
	}
	return open(&i.handles, &i.handles.offers, procedure), nil
}

// claimOffer takes over the offer of the instance before, or begins one.
func (s *state) claimOffer(procedure string) error {
	for _, known := range s.offers {
		if known.fromManifest || known.procedure != procedure {
			continue
		}
		if known.claimed {
			return fault(macula.ErrConflict, "already offers %s", procedure)
		}
		known.claimed = true
		return nil
	}
	if limit := s.manifest.limits.subscriptions; len(s.offers) >= limit {
		return fault(macula.ErrQuotaExceeded, "%d offers", limit)
	}
	s.offers = append(s.offers, &offer{procedure: procedure, claimed: true})
	return nil
}

func (i *instance) Withdraw(handle int32) {
	defer i.lock()()
	procedure := i.handles.offers[handle]
	i.offers = slices.DeleteFunc(i.offers, func(known *offer) bool {
		return !known.fromManifest && known.procedure == procedure
	})
}
