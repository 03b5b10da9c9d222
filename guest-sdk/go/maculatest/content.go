//go:build !wasip1

package maculatest

import (
	"bytes"
	"crypto/sha256"
	"encoding/base32"
	"strings"

	"macula.host/macula"
)

// contentStore is content in memory.
type contentStore struct {
	items  map[string][]byte
	pinned map[string]bool
	// What the plugin stored or fetched itself: it needs no right for it any more.
	own map[string]bool
}

func newContentStore() contentStore {
	return contentStore{make(map[string][]byte), make(map[string]bool), make(map[string]bool)}
}

// put stores bytes for whoever may fetch them.
func (c *contentStore) put(data []byte) (mcid string) {
	mcid = contentID(data)
	c.items[mcid] = bytes.Clone(data)
	return mcid
}

// putOwn stores bytes of the plugin.
func (c *contentStore) putOwn(data []byte) (mcid string) {
	mcid = c.put(data)
	c.own[mcid] = true
	return mcid
}

// fetch gives what the plugin may have: its own, and everything else by right; then it is its own as well.
func (c *contentStore) fetch(mcid string, rights rights) ([]byte, error) {
	if err := checkContentID(mcid); err != nil {
		return nil, err
	}
	if !c.own[mcid] {
		if err := rights.check(toFetch, mcid); err != nil {
			return nil, err
		}
	}
	data, ok := c.items[mcid]
	if !ok {
		return nil, fault(macula.ErrNotFound, "%s", mcid)
	}
	c.own[mcid] = true
	return data, nil
}

// has tells whether content is here, as far as the plugin may know.
func (c *contentStore) has(mcid string, rights rights) (bool, error) {
	if err := checkContentID(mcid); err != nil {
		return false, err
	}
	_, ok := c.items[mcid]
	return ok && (c.own[mcid] || rights.allow(toFetch, mcid)), nil
}

func (c *contentStore) pin(mcid string) error {
	if err := checkContentID(mcid); err != nil {
		return err
	}
	if _, ok := c.items[mcid]; !ok {
		return fault(macula.ErrNotFound, "%s", mcid)
	}
	c.pinned[mcid] = true
	return nil
}

func (c *contentStore) unpin(mcid string) error {
	if err := checkContentID(mcid); err != nil {
		return err
	}
	delete(c.pinned, mcid)
	return nil
}

// Content ids are CIDv1 in lower-case base32: 36 bytes, and the b in front.
const contentIDCharacters = 59

var base32Lower = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// contentID gives the id of bytes: by SHA-256, which the contract knows beside BLAKE3 and Go's library has.
func contentID(data []byte) string {
	hash := sha256.Sum256(data)
	// Version 1; raw bytes; SHA-256, of 32 bytes.
	return "b" + base32Lower.EncodeToString(append([]byte{0x01, 0x55, 0x12, 0x20}, hash[:]...))
}

func checkContentID(mcid string) error {
	isKnownHash := strings.HasPrefix(mcid, "bafkr4i") || strings.HasPrefix(mcid, "bafkrei")
	isBase32 := consistsOf(mcid, func(char byte) bool { return 'a' <= char && char <= 'z' || '2' <= char && char <= '7' })
	if isKnownHash && isBase32 && len(mcid) == contentIDCharacters {
		return nil
	}
	return invalid("%q is not a content id", mcid)
}
