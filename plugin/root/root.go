// Package root names the folder that relative paths of the block's other directives start from.
//
//	root PATH
package root

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/godwit-dns/godwit/chain"
	"github.com/godwit-dns/godwit/corefile"
)

// Spec is the root directive. It is set up before every directive that reads files.
var Spec = chain.Spec{Name: "root", Usage: "root PATH", New: setup}

func setup(s *chain.Setup) error {
	for i := range s.Lines {
		l := &s.Lines[i]
		if err := corefile.ArgCount(l, 1, 1, "PATH"); err != nil {
			return err
		}
		if l.Block != nil {
			return corefile.Errorf(l.Name.Pos, "root takes no block; write: root PATH")
		}
		s.Block.Root = l.Args[0].Text // the last one counts
	}
	word := s.Lines[len(s.Lines)-1].Args[0]
	_, err := fs.Stat(s.Env.Files, word.Text)
	if errors.Is(err, fs.ErrNotExist) { // it may appear later
		s.Warn(corefile.Warning{Pos: word.Pos, Text: fmt.Sprintf("the folder %s does not exist", word.Text)})
		return nil
	}
	if err != nil {
		return corefile.Errorf(word.Pos, "root: %v", err)
	}
	return nil
}
