package cache

import (
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/godwit-dns/godwit/chain"
	"github.com/godwit-dns/godwit/corefile"
	"github.com/godwit-dns/godwit/wire"
)

// Spec is the cache directive.
var Spec = chain.Spec{
	Name:    "cache",
	Usage:   "cache [TTL] [ZONES...]",
	Options: func() corefile.Options { return new(config).rows() },
	New:     setup,
}

// config is what a Corefile says about a cache.
type config struct {
	zones           []wire.Name
	success, denial side
	prefetch        int           // queries that make an entry popular; 0 is off
	duration        time.Duration // the longest gap between them
	percentage      int           // of its TTL that is left when it is fetched again
	staleUpTo       time.Duration // how long after its end an entry may answer; 0 is never
	verify          bool
	verifyTimeout   time.Duration // 0 waits for upstream's own end
	staleTTL        time.Duration
	recheck         time.Duration // pause after a failed refresh
	preferPositive  bool
	servfail        time.Duration
	keepTTL         bool

	staleSet, policySet bool
	warnings            []corefile.Warning
}

// side is one of the two caches.
type side struct {
	capacity int // entries
	max, min time.Duration
	except   []wire.Name
}

func defaults() config {
	return config{
		success:    side{capacity: 10000, max: time.Hour, min: 5 * time.Second},
		denial:     side{capacity: 10000, max: 30 * time.Minute, min: 5 * time.Second},
		duration:   time.Minute,
		percentage: 10,
		servfail:   5 * time.Second,
	}
}

func setup(s *chain.Setup) error {
	if len(s.Lines) > 1 {
		return corefile.Errorf(s.Lines[1].Name.Pos, "cache stands twice in a server block")
	}
	cfg := defaults()
	line := s.Lines[0]
	zones, err := cfg.head(&line, s)
	if err != nil {
		return err
	}
	warnings, err := cfg.rows().Read(&line)
	if err != nil {
		return err
	}
	s.Warn(append(warnings, cfg.warnings...)...)
	if cfg.policySet && !cfg.staleSet {
		return corefile.Errorf(line.Name.Pos, "serve_stale_policy requires serve_stale")
	}
	if s.Env.Node && !cfg.staleSet {
		cfg.nodeStale()
	}
	c := &Cache{cfg: cfg, env: s.Env, slot: chain.NewSlot[state](s)}
	c.success, c.denial = newTables(cfg.success.capacity, cfg.denial.capacity)
	c.counters = &counterSet{r: s.Env.Metrics, zones: strings.Join(zones, ",")}
	s.OnBuilt(func() error {
		c.counters.view = s.Block.View
		c.shareWildcard(s)
		c.keep(s) // now that the block's view is known
		return nil
	})
	s.Handler(c)
	return nil
}

// shareWildcard makes "zone/wildcard" true of answers from the cache too.
func (c *Cache) shareWildcard(s *chain.Setup) {
	below := s.Block.Provided("zone/wildcard")
	if below == nil || !s.Block.HasMetadata {
		return
	}
	c.wildcards = below
	s.Provide("zone/wildcard", func(q *chain.Query) string {
		if w := c.slot.Of(q).wildcard; w != "" {
			return w
		}
		return below(q)
	})
}

// head reads the directive's own line: a TTL for both caches, and zones.
func (c *config) head(line *corefile.Line, s *chain.Setup) ([]string, error) {
	args := line.Args
	if len(args) > 0 {
		if n, err := strconv.Atoi(args[0].Text); err == nil {
			if n <= 0 {
				return nil, corefile.Errorf(args[0].Pos, "cache TTL can not be zero or negative: %d", n)
			}
			c.success.max, c.denial.max = time.Duration(n)*time.Second, time.Duration(n)*time.Second
			args = args[1:]
		}
	}
	zones, warnings := corefile.Zones(args, s.Block.Zones)
	s.Warn(warnings...)
	names, err := chain.Names(zones)
	c.zones = names
	return zones, err
}

const maxInt = math.MaxInt32

func (c *config) rows() corefile.Options {
	return corefile.Options{
		{Name: "success", Usage: "CAPACITY [TTL] [MINTTL]", Min: 1, Max: -1, Read: func(l *corefile.Line) error { return c.success.read(l) }},
		{Name: "denial", Usage: "CAPACITY [TTL] [MINTTL]", Min: 1, Max: -1, Read: func(l *corefile.Line) error { return c.denial.read(l) }},
		{Name: "prefetch", Usage: "AMOUNT [DURATION [PERCENTAGE%]]", Min: 1, Max: 3, Read: c.readPrefetch},
		{Name: "serve_stale", Usage: "[DURATION] [immediate [RESPONSE_TTL [FAILURE_RECHECK]] | verify [VERIFY_TIMEOUT [RESPONSE_TTL [FAILURE_RECHECK]]]]",
			Min: 0, Max: 5, Read: c.readStale},
		{Name: "serve_stale_policy", Usage: "prefer_positive", Min: 1, Max: 1, Read: c.readPolicy},
		{Name: "servfail", Usage: "DURATION", Min: 1, Max: 1, Read: func(l *corefile.Line) (err error) {
			// RFC 2308, 7.1: a failure may be kept for five minutes at most.
			c.servfail, err = corefile.ParseDurationIn(l.Args[0], 0, 5*time.Minute)
			return err
		}},
		{Name: "disable", Usage: "success|denial [ZONES...]", Min: 1, Max: -1, Read: c.readDisable},
		corefile.Flag("keepttl", &c.keepTTL),
	}
}

func (s *side) read(l *corefile.Line) error {
	n, err := corefile.ParseInt(l.Args[0], -maxInt, maxInt)
	if err != nil {
		return err
	}
	s.capacity = n
	if len(l.Args) > 1 {
		ttl, err := corefile.ParseInt(l.Args[1], 1, maxInt)
		if err != nil {
			return err
		}
		s.max = time.Duration(ttl) * time.Second
	}
	if len(l.Args) > 2 {
		ttl, err := corefile.ParseInt(l.Args[2], 0, maxInt)
		if err != nil {
			return err
		}
		s.min = time.Duration(ttl) * time.Second
	}
	return nil
}

func (c *config) readPrefetch(l *corefile.Line) (err error) {
	if c.prefetch, err = corefile.ParseInt(l.Args[0], 0, maxInt); err != nil {
		return err
	}
	if len(l.Args) > 1 {
		if c.duration, err = corefile.ParseDuration(l.Args[1]); err != nil {
			return err
		}
	}
	if len(l.Args) > 2 {
		w := l.Args[2]
		text, percent := strings.CutSuffix(w.Text, "%")
		if !percent {
			return corefile.Errorf(w.Pos, "a percentage ends in %%, but this is %q", w.Text)
		}
		w.Text = text
		c.percentage, err = corefile.ParseInt(w, 10, 90)
	}
	return err
}

func (c *config) readStale(l *corefile.Line) (err error) {
	c.staleSet = true
	c.staleUpTo, c.staleTTL, c.recheck, c.verify, c.verifyTimeout = time.Hour, 0, 0, false, 0
	args := l.Args
	if len(args) > 0 {
		if c.staleUpTo, err = corefile.ParseDurationIn(args[0], 0, math.MaxInt64); err != nil {
			return err
		}
		args = args[1:]
	}
	if len(args) == 0 {
		return nil
	}
	switch strings.ToLower(args[0].Text) {
	case "immediate":
		args = args[1:]
	case "verify":
		c.verify = true
		if args = args[1:]; len(args) > 0 {
			if c.verifyTimeout, err = corefile.ParseDurationIn(args[0], 0, math.MaxInt64); err != nil {
				return err
			}
			args = args[1:]
		}
	default:
		return corefile.Errorf(args[0].Pos, "%q is no refresh mode: immediate or verify", args[0].Text)
	}
	return c.readStaleTail(args)
}

// nodeStale is a node's default: when the cluster's servers are away its pods get what they had before (RFC 8767), after a
// short wait for something better. "serve_stale 0s" turns it off.
func (c *config) nodeStale() {
	c.staleUpTo, c.verify, c.verifyTimeout = 24*time.Hour, true, 400*time.Millisecond
	c.staleTTL, c.recheck = 30*time.Second, 5*time.Second
}

// readStaleTail reads RESPONSE_TTL and FAILURE_RECHECK.
func (c *config) readStaleTail(args []corefile.Word) (err error) {
	if len(args) > 2 {
		return corefile.Errorf(args[2].Pos, "serve_stale takes nothing after FAILURE_RECHECK")
	}
	if len(args) > 0 {
		if c.staleTTL, err = corefile.ParseDurationIn(args[0], 0, math.MaxUint32*time.Second); err != nil {
			return err
		}
		if c.staleTTL%time.Second != 0 {
			return corefile.Errorf(args[0].Pos, "RESPONSE_TTL is a whole number of seconds")
		}
	}
	if len(args) > 1 {
		c.recheck, err = corefile.ParseDurationIn(args[1], 0, 5*time.Minute)
	}
	return err
}

func (c *config) readPolicy(l *corefile.Line) error {
	if c.policySet {
		return corefile.Errorf(l.Name.Pos, "serve_stale_policy can only be specified once")
	}
	c.policySet = true
	if strings.ToLower(l.Args[0].Text) != "prefer_positive" {
		return corefile.Errorf(l.Args[0].Pos, "%q is no policy: the only one is prefer_positive", l.Args[0].Text)
	}
	c.preferPositive = true
	return nil
}

func (c *config) readDisable(l *corefile.Line) error {
	zones := []string{"."}
	if len(l.Args) > 1 {
		zones = nil
		for _, w := range l.Args[1:] {
			z := corefile.Host(w.Text)
			if len(z) == 0 { // CoreDNS takes it, and nothing is ever in it
				c.warnings = append(c.warnings, corefile.Warning{Pos: w.Pos, Text: strconv.Quote(w.Text) + " is no zone and is left out"})
			}
			zones = append(zones, z...)
		}
	}
	names, err := chain.Names(zones)
	if err != nil {
		return corefile.Errorf(l.Name.Pos, "%v", err)
	}
	switch l.Args[0].Text {
	case "success":
		c.success.except = names
	case "denial":
		c.denial.except = names
	default:
		return corefile.Errorf(l.Args[0].Pos, "%q is neither success nor denial", l.Args[0].Text)
	}
	return nil
}
