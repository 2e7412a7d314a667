package cluster

import (
	"context"
	"time"
)

const (
	// publishEvery is the longest pause between two publications: what arrives meanwhile is published together. A
	// publication that was short is followed by none, because a timer of an idle process is late by up to a millisecond.
	publishEvery = 500 * time.Microsecond
	// shortPass is how long a publication may take and still be short.
	shortPass = 100 * time.Microsecond
	// publishEveryLoading is the same until everything has been read once, when each Service changes many times.
	publishEveryLoading = 20 * time.Millisecond
	// restAfterBuild times its duration is how long a Service that was rebuilt is left alone.
	restAfterBuild = 4
	// freeBuild is the duration of a build that needs no rest.
	freeBuild = publishEvery / restAfterBuild
)

// publisher builds and publishes dirty Services until ctx ends.
func (s *store) publisher(ctx context.Context) {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.kick:
		case <-timer.C:
		}
		begin := time.Now()
		timer.Reset(s.publish())
		pause := min(time.Since(begin), publishEvery)
		if !s.isLive() {
			pause = publishEveryLoading
		} else if pause < shortPass {
			continue
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
	}
}

// settle publishes at once what the object that was just applied changed, so that nobody has to be woken for it. What is
// at rest, and everything before the first complete list, is the publisher's.
func (s *store) settle() {
	if !s.live || len(s.dirty) == s.waiting {
		s.wake()
		return
	}
	now := s.now()
	kept := s.dirty[:s.waiting]
	for _, e := range s.dirty[s.waiting:] {
		if e.notBefore.After(now) {
			kept = append(kept, e)
			continue
		}
		now = s.publishTimed(e, now)
	}
	clear(s.dirty[len(kept):])
	s.dirty = kept
	s.wake()
}

// publishTimed publishes an entry, begun at a time, says how long it is to rest, and gives the time.
func (s *store) publishTimed(e *entry, begin time.Time) time.Time {
	p := e.pending
	e.pending = nil
	s.publishEntry(e, p)
	s.version.Add(1)
	done := s.now()
	// A build that was interrupted tells nothing of what building costs, and a collection interrupts many in a row. So the
	// cost grows slowly.
	took := done.Sub(begin)
	if e.cost == 0 {
		e.cost = took
	}
	e.cost = min(took, e.cost+e.cost/8)
	if e.cost > freeBuild {
		e.notBefore = done.Add(restAfterBuild * e.cost)
	}
	s.report(e, p, done)
	return done
}

func (s *store) isLive() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.live
}

// publish builds every dirty Service that is not at rest and gives the time until the next one may be built.
func (s *store) publish() time.Duration {
	wait := time.Hour
	for {
		more, next := s.publishSome()
		wait = min(wait, next)
		if !more {
			return wait
		}
	}
}

// publishSome builds for at most a millisecond or so, so that a watch that brings events does not wait long for the lock.
func (s *store) publishSome() (more bool, wait time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	wait = time.Hour
	start := s.now()
	now := start
	kept := s.dirty[:0]
	for i, e := range s.dirty {
		if rest := e.notBefore.Sub(now); rest > 0 {
			kept = append(kept, e)
			wait = min(wait, rest)
			continue
		}
		if now.Sub(start) > time.Millisecond {
			kept = append(kept, s.dirty[i:]...)
			more = true
			break
		}
		now = s.publishTimed(e, now)
	}
	clear(s.dirty[len(kept):])
	s.dirty = kept
	s.waiting = len(kept)
	return more, wait
}

// publishAll builds every dirty Service now.
func (s *store) publishAll() {
	s.mu.Lock()
	for _, e := range s.dirty {
		s.publishTimed(e, s.now())
	}
	clear(s.dirty)
	s.dirty = s.dirty[:0]
	s.waiting = 0
	s.mu.Unlock()
}

func (s *store) publishEntry(e *entry, p *pending) {
	s.publishes.Add(1)
	old := e.published
	if e.facts == nil || e.base == nil {
		if old != nil {
			s.svcTable.remove(e.hash, e.id)
			s.indexService(e, old, nil)
			s.svcTable.release(e.id)
			e.published = nil
		}
		m := &s.services
		if e.imported {
			m = &s.imports
		}
		s.forget(m, e)
		return
	}
	r := s.patch(e, p)
	if r == nil {
		r = s.record.build(e)
	}
	if old == nil {
		e.id = s.svcTable.take()
	}
	s.svcTable.set(e.id, r)
	if old == nil {
		s.svcTable.insert(e.hash, e.id)
	}
	e.published = r
	s.indexService(e, old, r)
}

// indexService keeps the tables of Services by address; what is new comes before what is gone.
func (s *store) indexService(e *entry, old, r *Service) {
	if e.imported {
		return // multicluster Services have no PTR records
	}
	if r != nil {
		for _, a := range r.ips {
			if old == nil || !old.hasIP(a) {
				s.vipTable.insert(s.hashAddr(a), e.id)
			}
		}
		for _, t := range r.External {
			if a, ok := parseAddr([]byte(t)); ok && (old == nil || !old.hasExternal(t)) {
				s.extTable.insert(s.hashAddr(a), e.id)
			}
		}
	}
	if old != nil {
		for _, a := range old.ips {
			if r == nil || !r.hasIP(a) {
				s.vipTable.remove(s.hashAddr(a), e.id)
			}
		}
		for _, t := range old.External {
			if a, ok := parseAddr([]byte(t)); ok && (r == nil || !r.hasExternal(t)) {
				s.extTable.remove(s.hashAddr(a), e.id)
			}
		}
	}
}

// report observes how long the changes took that were just published.
func (s *store) report(e *entry, p *pending, now time.Time) {
	if s.observe.Published != nil {
		for _, at := range p.read {
			s.observe.Published(now.Sub(at))
		}
	}
	if s.observe.Programming != nil && e.facts != nil {
		kind := "cluster_ip"
		if e.facts.kind == Headless {
			kind = "headless_with_selector"
		}
		for _, at := range p.triggered {
			s.observe.Programming(kind, now.Sub(at))
		}
	}
	s.spare = p.reset()
}
