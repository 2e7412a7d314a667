package handover

import (
	"crypto/rand"
	"encoding/hex"
	"strings"
)

// Alias is the interface's alias: hostnet's Host has it.
type Alias interface {
	// Alias gives the text; an error where there is no interface.
	Alias() (string, error)
	// SetAlias writes it, which takes NET_ADMIN.
	SetAlias(text string) error
}

const aliasHead = "godwit/1"

// aliasText is what the owner of the sockets writes.
func aliasText(id, socket string) string { return aliasHead + " " + id + " " + socket }

// parseAlias finds an owner in an alias. Base is its part without nonces.
func parseAlias(text string) (base, id, socket string, ok bool) {
	words := strings.Split(text, " ")
	if len(words) < 3 || words[0] != aliasHead || !validID(words[1]) || !validSocket(words[2]) {
		return "", "", "", false
	}
	return strings.Join(words[:3], " "), words[1], words[2], true
}

// Owner gives the id of the agent that an alias names; false where it names none that speaks protocol 1.
func Owner(alias string) (id string, ok bool) {
	_, id, _, ok = parseAlias(alias)
	return id, ok
}

func validID(s string) bool {
	if len(s) != 8 {
		return false
	}
	for _, c := range s {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

// maxSocket keeps an alias with two nonces below the kernel's 255 octets.
const maxSocket = 64

func validSocket(s string) bool {
	if s == "" || len(s) > maxSocket {
		return false
	}
	for _, c := range s {
		if (c < '0' || c > '9') && (c < 'a' || c > 'z') && c != '-' {
			return false
		}
	}
	return true
}

// proven is the alias with a nonce behind what it said before.
func proven(before string, nonce []byte) string { return before + " " + hex.EncodeToString(nonce) }

func newNonce() []byte {
	b := make([]byte, nonceSize)
	rand.Read(b) // never fails: the runtime ends the process where the kernel has no randomness
	return b
}
