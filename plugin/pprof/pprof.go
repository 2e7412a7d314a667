// Package pprof serves profiles of the process over HTTP.
//
//	pprof [ADDRESS] {
//	    block [RATE]
//	}
package pprof

import (
	"context"
	"math"
	"net"
	"net/http"
	"net/http/pprof"
	"runtime"

	"github.com/godwit-dns/godwit/chain"
	"github.com/godwit-dns/godwit/corefile"
)

// Spec is the pprof directive.
var Spec = chain.Spec{
	Name: "pprof",
	Usage: `pprof [ADDRESS] {
    block [RATE]
}`,
	Options: func() corefile.Options { return options(new(int)) },
	New:     setup,
}

// defaultAddress is where profiles are served when the line names no address.
const defaultAddress = "localhost:6053"

func setup(s *chain.Setup) error {
	if len(s.Lines) > 1 {
		return corefile.Errorf(s.Lines[1].Name.Pos, "pprof can be used only once in a server block")
	}
	l := &s.Lines[0]
	if err := corefile.ArgCount(l, 0, 1, "[ADDRESS]"); err != nil {
		return err
	}
	address, pos := defaultAddress, l.Name.Pos
	if len(l.Args) == 1 {
		address, pos = l.Args[0].Text, l.Args[0].Pos
		if _, _, err := net.SplitHostPort(address); err != nil {
			return corefile.Errorf(pos, "%v", err)
		}
	}
	rate := 0
	warnings, err := options(&rate).Read(l)
	s.Warn(warnings...)
	if err != nil {
		return err
	}
	s.OnStart(func(context.Context) error {
		runtime.SetBlockProfileRate(rate)
		return nil
	})
	s.Shared("pprof "+address, func() any { // several blocks may name the same address
		for path, h := range handlers() {
			s.HTTP(chain.Endpoint{Addr: address, Path: path, Handler: h, Pos: pos, Name: "pprof"})
		}
		return true
	})
	return nil
}

func handlers() map[string]http.Handler {
	return map[string]http.Handler{
		"/debug/pprof":         http.RedirectHandler("/debug/pprof/", http.StatusFound),
		"/debug/pprof/":        http.HandlerFunc(pprof.Index), // and the profiles by name
		"/debug/pprof/cmdline": http.HandlerFunc(pprof.Cmdline),
		"/debug/pprof/profile": http.HandlerFunc(pprof.Profile),
		"/debug/pprof/symbol":  http.HandlerFunc(pprof.Symbol),
		"/debug/pprof/trace":   http.HandlerFunc(pprof.Trace),
	}
}

func options(rate *int) corefile.Options {
	return corefile.Options{{Name: "block", Usage: "[RATE]", Max: 1, Read: func(l *corefile.Line) (err error) {
		*rate = 1
		if len(l.Args) == 1 {
			*rate, err = corefile.ParseInt(l.Args[0], math.MinInt, math.MaxInt)
		}
		return err
	}}}
}
