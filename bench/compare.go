package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"
)

// series is one kind of questions within a work.
type series struct {
	name string
	traffic
	limit  float64       // what Godwit may cost at most, in echoes; 0 for no limit
	octets int           // of an answer, where they are so many that their copies count: the echo's are as long
	settle time.Duration // of the same load before each run
	rounds int           // instead of the option's, where a run is long
	unlike bool          // answers are not compared: they differ by design (an empty zone's, a transfer's)
}

// group is the servers of a work, started, answering alike and warm.
type group struct {
	r       *rig
	servers []*server
}

// bring starts the subjects and the echo, on the server's core unless the scene says otherwise. One of Debian's that
// does not start is left out, and the page says so.
func (r *rig) bring(ctx context.Context, out *Result, sc scene, probe string, subs ...subject) (*group, error) {
	g := &group{r: r}
	cores := sc.cores
	if cores == "" {
		cores = serverCore
	}
	for _, sub := range append([]subject{r.subjectEcho()}, subs...) {
		if !r.opt.measures(sub.name) {
			continue
		}
		s, err := r.start(ctx, sub, cores, probe)
		if err != nil && (sub.name == "godwit" || sub.name == "echo" || ctx.Err() != nil) {
			return nil, err
		}
		if err != nil {
			r.say("left out: %v", err)
			out.note("%s did not start and is left out.", sub.name)
			if s != nil {
				s.child.stop()
			}
			continue
		}
		g.servers = append(g.servers, s)
	}
	return g, nil
}

// named gives a server of the group.
func (g *group) named(name string) *server {
	for _, s := range g.servers {
		if s.name == name {
			return s
		}
	}
	return nil
}

// prepare compares the answers of all servers and then asks each everything once, so that what is kept is kept.
func (g *group) prepare(ctx context.Context, all []series) error {
	for _, se := range all {
		if !se.unlike {
			if err := sameAnswers(ctx, g.servers, se.questions); err != nil {
				return fmt.Errorf("%s: %w", se.name, err)
			}
		}
		for _, s := range g.servers {
			warm := se.traffic
			length := time.Duration(0) // the whole file once
			if len(se.questions) > manyQuestions {
				length = time.Second
			}
			if _, err := warm.dnsperf(ctx, s, 20000, length); err != nil {
				return fmt.Errorf("%s: %s: %w", se.name, s.name, err)
			}
		}
	}
	return nil
}

// measure runs every series at every load, round after round, each round in the opposite order of the last, so that
// what drifts on the machine falls on all alike: A B B A.
func (g *group) measure(ctx context.Context, out *Result, all []series, loads []load, length time.Duration) error {
	for _, se := range all {
		if err := g.measureTogether(ctx, out, []series{se}, loads, length); err != nil {
			return err
		}
	}
	return nil
}

// measureTogether is measure for series that are compared with each other: each round has them all.
func (g *group) measureTogether(ctx context.Context, out *Result, all []series, loads []load, length time.Duration) error {
	for _, se := range all {
		if se.limit > 0 {
			out.limit(se.name, se.limit)
		}
		for _, s := range g.servers { // what adapts to what is asked lately may have done so
			if _, err := se.dnsperf(ctx, s, 20000, time.Second); err != nil {
				return fmt.Errorf("%s: %s: %w", se.name, s.name, err)
			}
		}
	}
	rounds := g.r.opt.rounds
	if all[0].rounds > 0 {
		rounds = all[0].rounds
	}
	for _, l := range loads {
		for round := range rounds {
			for _, se := range all {
				if err := g.round(ctx, out, se, l, round, length); err != nil {
					return fmt.Errorf("%s at %s: %w", se.name, l, err)
				}
			}
		}
		for _, se := range all {
			g.r.sayPoint(out, se.name, l)
		}
	}
	return nil
}

// round is a run of each server.
func (g *group) round(ctx context.Context, out *Result, se series, l load, round int, length time.Duration) error {
	order := slices.Clone(g.servers)
	if round%2 == 1 {
		slices.Reverse(order)
	}
	for _, s := range order {
		if s.tally != nil {
			s.tally.answer.Store(uint64(se.octets))
		}
		if se.settle > 0 {
			if _, err := se.dnsperf(ctx, s, l, se.settle); err != nil {
				return fmt.Errorf("%s: %w", s.name, err)
			}
		}
		sample, err := se.turn(round).sample(ctx, s, l, length)
		if err != nil {
			return err
		}
		sample.Series, sample.Round = se.name, round
		out.Samples = append(out.Samples, sample)
	}
	return nil
}

// sayPoint shows what has just been measured.
func (r *rig) sayPoint(out *Result, name string, l load) {
	var line strings.Builder
	seen := map[string][]float64{}
	var order []string
	for _, s := range out.Samples {
		if s.Series == name && s.Load == l.String() {
			if seen[s.Server] == nil {
				order = append(order, s.Server)
			}
			seen[s.Server] = append(seen[s.Server], s.CPU)
		}
	}
	for _, server := range order {
		fmt.Fprintf(&line, "  %s %.2f", server, middle(seen[server]))
	}
	r.say("%-28s %7s:%s", name, l, line.String())
}
