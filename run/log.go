package run

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
)

// NewLog makes the logger of the process: a line "[LEVEL] message key=value …", the form that CoreDNS's users match.
// Lines below level are left out; it may change.
func NewLog(w io.Writer, level slog.Leveler) *slog.Logger {
	return slog.New(&lineHandler{out: w, level: level})
}

type lineWriter struct {
	mu sync.Mutex
	w  io.Writer
}

// Write writes whole lines, one caller after the other.
func (l *lineWriter) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(p)
}

type lineHandler struct {
	out   io.Writer // takes a line with each call, from any goroutine
	level slog.Leveler
	attrs string // rendered
	group string
}

// Enabled reports whether the level is logged.
func (h *lineHandler) Enabled(_ context.Context, level slog.Level) bool {
	return level >= h.level.Level()
}

// Handle writes one line.
func (h *lineHandler) Handle(_ context.Context, r slog.Record) error {
	var b strings.Builder
	level := r.Level.String()
	if r.Level == slog.LevelWarn {
		level = "WARNING"
	}
	b.WriteString("[" + level + "] " + r.Message + h.attrs)
	r.Attrs(func(a slog.Attr) bool {
		b.WriteString(h.render(a))
		return true
	})
	b.WriteByte('\n')
	_, err := io.WriteString(h.out, b.String())
	return err
}

func (h *lineHandler) render(a slog.Attr) string {
	if a.Equal(slog.Attr{}) {
		return ""
	}
	v := a.Value.Resolve().String()
	if v == "" || strings.ContainsAny(v, " \t\n\"=") {
		v = fmt.Sprintf("%q", v)
	}
	return " " + h.group + a.Key + "=" + v
}

// WithAttrs gives a handler whose lines all have these attributes.
func (h *lineHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	next := *h
	for _, a := range attrs {
		next.attrs += h.render(a)
	}
	return &next
}

// WithGroup gives a handler whose attributes are named below the group.
func (h *lineHandler) WithGroup(name string) slog.Handler {
	next := *h
	next.group += name + "."
	return &next
}
