package main

import (
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"unicode"

	"github.com/miekg/dns"
)

// rawQuestions reads "raw PROTO HEX" and "fuzz COUNT SEED NAME [TYPE [MODE]]".
func rawQuestions(s *step) ([]question, error) {
	if s.verb == "raw" {
		b, err := hex.DecodeString(strings.Join(s.args[1:], ""))
		return []question{{what: s.text, packet: b, proto: s.args[0], port: "PORT", at: loopback, raw: true, silent: true}}, err
	}
	count, err := strconv.Atoi(s.args[0])
	if err != nil {
		return nil, err
	}
	if len(s.args) > 5 {
		return nil, fmt.Errorf("fuzz COUNT SEED NAME [TYPE [MODE]]")
	}
	seed, err := strconv.ParseUint(s.args[1], 10, 64)
	if err != nil {
		return nil, err
	}
	rest := append(append([]string{}, s.args[2:]...), []string{"", "A", "udp"}[len(s.args)-2:]...)
	base, err := newQuestion(rest[0], rest[1], rest[2])
	if err != nil {
		return nil, err
	}
	random := rand.New(rand.NewPCG(seed, 1))
	var out []question
	for range count {
		q := base
		q.packet = damage(random, base.packet)
		q.what, q.raw, q.silent = fmt.Sprintf("raw %s %x", q.proto, q.packet), true, true
		out = append(out, q)
	}
	return out, nil
}

// damage changes a few octets of a packet behind its ID, cuts it or lengthens it.
func damage(random *rand.Rand, packet []byte) []byte {
	b := append([]byte{}, packet...)
	switch random.IntN(8) {
	case 0:
		b = b[:random.IntN(len(b))]
	case 1:
		for range 1 + random.IntN(20) {
			b = append(b, byte(random.IntN(256)))
		}
	case 2: // a count
		b[4+random.IntN(8)] = byte(random.IntN(4))
	case 3: // the flags
		b[2+random.IntN(2)] = byte(random.IntN(256))
	default:
		for range 1 + random.IntN(3) {
			b[2+random.IntN(len(b)-2)] = byte(random.IntN(256))
		}
	}
	return b
}

// mixWords are the words of a mode that a mix draws from.
var mixWords = strings.Fields("edns do cd ad nord size=512 size=1232 size=4096 size=700 cookie nsid ecs pad keepalive expire ede " +
	"opt=65001 class=3 class=255 version=1")

// mixedQuestions reads "mix COUNT SEED NAMES...": questions of drawn names, with labels before them, labels left out and
// letters of both cases, drawn types and modes.
func mixedQuestions(s *step) ([]question, error) {
	count, err := strconv.Atoi(s.args[0])
	if err != nil {
		return nil, err
	}
	seed, err := strconv.ParseUint(s.args[1], 10, 64)
	if err != nil {
		return nil, err
	}
	names := expand(strings.Join(s.args[2:], " "))
	types := strings.Fields(groups["@types"])
	random := rand.New(rand.NewPCG(seed, 2))
	var out []question
	for range count {
		mode := "udp"
		if random.IntN(5) == 0 {
			mode = "tcp"
		}
		for random.IntN(3) == 0 {
			mode += "+" + mixWords[random.IntN(len(mixWords))]
		}
		t := types[random.IntN(len(types))]
		if random.IntN(2) == 0 {
			t = types[random.IntN(5)]
		}
		q, err := newQuestion(drawnName(random, names), t, mode)
		if err != nil {
			return nil, err
		}
		out = append(out, q)
	}
	return out, nil
}

// drawnName takes one of the names and, now and then, changes it.
func drawnName(random *rand.Rand, names []string) string {
	name := names[random.IntN(len(names))]
	labels := dns.SplitDomainName(name)
	switch random.IntN(6) {
	case 0:
		labels = append([]string{[]string{"x", "_tcp", "www", "*", "a-b", "1-2-3-4", "_http", "ns"}[random.IntN(8)]}, labels...)
	case 1:
		if len(labels) > 1 {
			labels = labels[1:]
		}
	case 2:
		labels = append(labels, dns.SplitDomainName(names[random.IntN(len(names))])...)
	}
	name = strings.Join(labels, ".") + "."
	if len(name) > 200 || random.IntN(8) > 0 {
		return name[max(0, len(name)-200):]
	}
	return strings.Map(func(r rune) rune {
		if random.IntN(2) == 0 {
			return unicode.ToUpper(r)
		}
		return r
	}, name)
}
