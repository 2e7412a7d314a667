package forward

import (
	"strings"

	"github.com/godwit-dns/godwit/chain"
	"github.com/godwit-dns/godwit/corefile"
)

// Proxy is the directive that CoreDNS had before forward. Its lines are read as the forward lines that mean the same, and
// the warning shows them.
var Proxy = chain.Spec{Name: "proxy", Usage: "proxy FROM TO...", New: setupProxy}

func setupProxy(s *chain.Setup) error {
	lines := make([]corefile.Line, len(s.Lines))
	for i := range s.Lines {
		l, err := translate(&s.Lines[i])
		if err != nil {
			return err
		}
		s.Warn(corefile.Warning{Pos: l.Name.Pos, Text: "proxy is no directive any more and is read as forward; write: " + oneLine(&l)})
		lines[i] = l
	}
	s.Lines = lines
	return setup(s)
}

// translate makes a forward line of a proxy line.
func translate(l *corefile.Line) (corefile.Line, error) {
	f := corefile.Line{Name: corefile.Word{Text: "forward", Pos: l.Name.Pos}, Args: l.Args}
	for _, opt := range l.Block {
		switch opt.Name.Text {
		case "except", "max_fails":
			f.Block = append(f.Block, opt)
		case "policy":
			f.Block = append(f.Block, policyLine(opt))
		case "protocol":
			forced, err := protocol(&opt)
			if err != nil {
				return f, err
			}
			if forced {
				f.Block = append(f.Block, corefile.Line{Name: corefile.Word{Text: "force_tcp", Pos: opt.Name.Pos}})
			}
		case "fail_timeout", "health_check", "spray":
			// forward checks after a failure, over DNS, and tries all servers when all are down.
		default:
			return f, &corefile.Error{Pos: opt.Name.Pos, Text: "proxy has no option " + opt.Name.Text,
				Hint: "write the line as forward FROM TO..."}
		}
	}
	return f, nil
}

// policyLine renames the policies that forward does not have: "first" is sequential, and the least loaded server of many
// loops is as good as a random one.
func policyLine(opt corefile.Line) corefile.Line {
	args := append([]corefile.Word(nil), opt.Args...)
	for i := range args {
		switch args[i].Text {
		case "first":
			args[i].Text = "sequential"
		case "least_conn":
			args[i].Text = "random"
		}
	}
	opt.Args = args
	return opt
}

// protocol reads dns [force_tcp], the only one that forward speaks too.
func protocol(opt *corefile.Line) (forceTCP bool, err error) {
	if len(opt.Args) > 0 && opt.Args[0].Text != "dns" {
		return false, corefile.Errorf(opt.Args[0].Pos, "forward does not ask over %s; it does over UDP, TCP and tls://", opt.Args[0].Text)
	}
	return len(opt.Args) > 1 && opt.Args[1].Text == "force_tcp", nil
}

// oneLine writes a line and its options.
func oneLine(l *corefile.Line) string {
	words := []string{l.Name.Text}
	for _, a := range l.Args {
		words = append(words, a.Text)
	}
	text := strings.Join(words, " ")
	if len(l.Block) == 0 {
		return text
	}
	options := make([]string, len(l.Block))
	for i := range l.Block {
		options[i] = oneLine(&l.Block[i])
	}
	return text + " { " + strings.Join(options, "; ") + " }"
}
