package corefile

import (
	"crypto/sha512"
	"encoding/hex"
	"encoding/json"
)

// hashedToken and hashedBlock have the fields, and so the JSON, of what CoreDNS's reload hashes.
type hashedToken struct {
	File string
	Line int
	Text string
}

type hashedBlock struct {
	Keys   []string
	Tokens map[string][]hashedToken
}

// hashBlocks returns the SHA-512 of the blocks as CoreDNS computes it, in lower-case hex.
func hashBlocks(blocks []tokenBlock) string {
	var all []hashedBlock // no block at all is null in CoreDNS's JSON
	for _, b := range blocks {
		h := hashedBlock{Tokens: map[string][]hashedToken{}}
		for _, k := range b.keys {
			h.Keys = append(h.Keys, k.Text)
		}
		for _, d := range b.directives {
			for _, t := range d.tokens {
				h.Tokens[d.name] = append(h.Tokens[d.name], hashedToken{File: t.file, Line: t.pos.Line, Text: t.text})
			}
		}
		all = append(all, h)
	}
	text, err := json.Marshal(all)
	if err != nil {
		panic("corefile: strings and numbers always marshal: " + err.Error())
	}
	sum := sha512.Sum512(text)
	return hex.EncodeToString(sum[:])
}
