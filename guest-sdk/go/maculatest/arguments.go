//go:build !wasip1

package maculatest

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"macula.host/macula"
)

// What the contract says of arguments.

const (
	payloadBytesMax        = 1 << 20
	contentTypeBytesMax    = 127
	metadataPairsMax       = 16
	metadataBytesMax       = 4_096
	idempotencyKeyBytesMax = 64
	// Of a subscription's queue, and of calls in flight.
	waitingMax = 65_536
)

func invalid(format string, arguments ...any) error {
	return fault(macula.ErrInvalid, format, arguments...)
}

func fault(kind error, format string, arguments ...any) error {
	return &macula.Error{Kind: kind, Text: fmt.Sprintf(format, arguments...)}
}

func tooLarge(bytesMax uint32) error {
	return &macula.Error{Kind: macula.ErrTooLarge, BytesMax: bytesMax}
}

func checkTopic(topic string) error {
	if isTopic(topic) {
		return nil
	}
	return invalid("%q is not a topic: 1 to 16 segments of [A-Za-z0-9_-]{1,63} joined by dots", topic)
}

func checkPayload(payload []byte) error {
	if len(payload) > payloadBytesMax {
		return tooLarge(payloadBytesMax)
	}
	return nil
}

func checkContentType(contentType string) error {
	if len(contentType) > contentTypeBytesMax {
		return invalid("content type: at most 127 bytes")
	}
	return nil
}

func checkMetadata(metadata macula.Metadata) error {
	bytes := 0
	for _, name := range slices.Sorted(maps.Keys(metadata)) {
		bytes += len(name) + len(metadata[name])
		if !isCode(name) {
			return invalid("metadata name %q: 1 to 64 characters of [a-z0-9-]", name)
		}
		if strings.HasPrefix(name, "macula-") {
			return invalid("metadata name %q belongs to the platform", name)
		}
	}
	if len(metadata) > metadataPairsMax || bytes > metadataBytesMax {
		return invalid("metadata: at most 16 pairs, 4,096 bytes together")
	}
	return nil
}
