package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// batches gives a server's count of receive calls and of the datagrams that they brought; zeros when it has none.
func (s *server) batches(ctx context.Context) (receives, datagrams uint64, err error) {
	if s.tally != nil {
		return s.tally.receives.Load(), s.tally.datagrams.Load(), nil
	}
	if s.metrics == "" {
		return 0, 0, nil
	}
	all, err := scrape(ctx, s.metrics)
	if err != nil {
		return 0, 0, fmt.Errorf("%s: %w", s.name, err)
	}
	return uint64(all["godwit_udp_receives_total"]), uint64(all["godwit_udp_datagrams_total"]), nil
}

// scrape reads metrics in text form: the name with its labels, as it is written, to the value.
func scrape(ctx context.Context, url string) (map[string]float64, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %s: %w", url, resp.Status, err)
	}
	all := map[string]float64{}
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		cut := strings.LastIndexByte(line, ' ')
		if cut < 0 || line[0] == '#' {
			continue
		}
		if v, err := strconv.ParseFloat(line[cut+1:], 64); err == nil {
			all[line[:cut]] = v
		}
	}
	return all, nil
}
