package node

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/godwit-dns/godwit/chain"
)

// What an agent's caches hold goes to its successor as a stream:
//
//	"GWC1", then records: kind (1 octet), length (4 octets, big endian), that many octets.
//	kind 1: the name of a cache; the entries that follow are its own
//	kind 2: an entry, as the cache writes it
//
// Records of other kinds are passed over, and so is a stream that begins otherwise. It may end anywhere: what came whole
// counts.
const (
	cacheMagic = "GWC1"
	cacheName  = 1
	cacheEntry = 2

	mostEntry = 1 << 18 // octets; an answer has at most 64 KiB
)

// saveCaches writes the caches until w fails or ctx is done.
func saveCaches(ctx context.Context, w io.Writer, kept []chain.Kept) error {
	if _, err := io.WriteString(w, cacheMagic); err != nil {
		return err
	}
	for _, k := range kept {
		err := writeRecord(w, cacheName, []byte(k.Name))
		if err == nil {
			k.Export(func(entry []byte) bool {
				if err = ctx.Err(); err == nil && len(entry) <= mostEntry {
					err = writeRecord(w, cacheEntry, entry)
				}
				return err == nil
			})
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func writeRecord(w io.Writer, kind byte, data []byte) error {
	head := binary.BigEndian.AppendUint32([]byte{kind}, uint32(len(data)))
	if _, err := w.Write(head); err != nil {
		return err
	}
	_, err := w.Write(data)
	return err
}

// loadCaches reads a predecessor's caches into those of the same names, and reports how many entries came.
func loadCaches(r io.Reader, kept []chain.Kept) (entries int, err error) {
	in := bufio.NewReaderSize(r, 1<<16)
	magic := make([]byte, len(cacheMagic))
	if _, err := io.ReadFull(in, magic); err != nil || string(magic) != cacheMagic {
		return 0, errors.Join(err, fmt.Errorf("the caches are in an unknown form %q", magic))
	}
	var into *chain.Kept
	var data []byte
	for {
		var head [5]byte
		if _, err := io.ReadFull(in, head[:]); err != nil {
			return entries, cut(err)
		}
		n := binary.BigEndian.Uint32(head[1:])
		if n > mostEntry {
			return entries, fmt.Errorf("a record of %d octets among the caches", n)
		}
		if uint32(cap(data)) < n {
			data = make([]byte, n)
		}
		data = data[:n]
		if _, err := io.ReadFull(in, data); err != nil {
			return entries, cut(err)
		}
		switch head[0] {
		case cacheName:
			into = nil
			for i := range kept {
				if kept[i].Name == string(data) {
					into = &kept[i]
				}
			}
		case cacheEntry:
			if into != nil {
				into.Import(data)
				entries++
			}
		}
	}
}

// cut makes a stream's end no error, wherever it is.
func cut(err error) error {
	if err == io.EOF || errors.Is(err, io.ErrUnexpectedEOF) {
		return nil
	}
	return err
}
