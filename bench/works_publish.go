package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/netip"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"

	"github.com/godwit-dns/godwit/test/kube"
)

const stubCorefile = `.:{PORT} {
    bind 127.0.0.1
    errors
    kubernetes cluster.local {
       endpoint {STUB}
    }
    prometheus {METRICS}
    loadbalance
}
`

// changing is the Services whose slices change: at 1,000 changes a second each slice changes 5 to 10 times.
var changing = []struct {
	prefix    string
	services  int
	endpoints int // of each
	first     string
	limit     float64 // ms
}{
	{"five-hundred", 20, 500, "10.140.0.1", 1},
	{"five-thousand", 4, 5000, "10.141.0.1", 5},
}

// workPublish: from reading a frame of a watch, and from writing it in the stub, until the answer that it changes is
// published, by the process's own counts (godwit_kubernetes_publish_duration_seconds and
// coredns_kubernetes_dns_programming_duration_seconds), while questions are being answered.
func workPublish(ctx context.Context, r *rig, out *Result) error {
	s, changes, err := r.recordings(ctx, out)
	if err != nil {
		return err
	}
	defer s.close()
	sc := scene{corefile: stubCorefile, fill: map[string]string{"{STUB}": s.url}}
	for i, c := range changing {
		probe := fmt.Sprintf("service-0.%s-0.svc.cluster.local.", c.prefix)
		srv, err := r.start(ctx, r.subjectGodwit(sc), serverCore, probe)
		if err != nil {
			return err
		}
		if err := r.playTo(ctx, out, s, srv, changes[i], fmt.Sprintf("Services of %d endpoints", c.endpoints), c.limit); err != nil {
			return err
		}
		srv.child.stop()
	}
	if err := r.relistStalls(ctx, out, s, sc); err != nil {
		return err
	}
	out.note("The cluster has 10,000 Services with 150,000 endpoints beside those that change.")
	out.note("The first time counts from the read that brought the end of a frame; the second from just before the stub writes it on the other core, beside the generator, so it holds that core's other work and the way through the socket too. 5,000 questions a second for a ClusterIP go on meanwhile.")
	return nil
}

// playTo plays the changes while questions are asked, and reads the process's histogram before and after.
func (r *rig) playTo(ctx context.Context, out *Result, s *stub, srv *server, list []*change, name string, limit float64) error {
	if err := sleep(ctx, 2*time.Second); err != nil {
		return err
	}
	t, err := r.writeQuestions("publish", r.clusterQuestions())
	if err != nil {
		return err
	}
	length := 6 * r.opt.seconds
	before, err := readTimes(ctx, srv.metrics)
	if err != nil {
		return err
	}
	type asked struct {
		p   perf
		err error
	}
	answers := make(chan asked, 1)
	used, err := usageOf(srv.child.pid())
	if err != nil {
		return err
	}
	go func() {
		p, err := t.dnsperf(ctx, srv, 5000, length)
		answers <- asked{p, err}
	}()
	sent, playErr := s.play(ctx, list, 1000, length)
	a := <-answers
	if err := errors.Join(playErr, a.err); err != nil {
		return err
	}
	end, err := usageOf(srv.child.pid())
	if err != nil {
		return err
	}
	if err := sleep(ctx, time.Second); err != nil {
		return err
	}
	after, err := readTimes(ctx, srv.metrics)
	if err != nil {
		return err
	}
	if err := out.published(name, before, after, limit, sent, length, "writing it in the stub"); err != nil {
		return err
	}
	out.figure("godwit", name+": CPU of the process", 100*end.minus(used).total.Seconds()/length.Seconds(), "% of a core", 0, "")
	out.figure("godwit", name+": questions lost meanwhile", 100*(1-float64(a.p.answered)/float64(a.p.sent)), "%", 0, "")
	return nil
}

// recordings makes the objects in a real API server, measures with it, records its frames, and starts the stub that plays
// them back.
func (r *rig) recordings(ctx context.Context, out *Result) (*stub, [][]*change, error) {
	p, err := kube.Start(ctx, kube.Options{Streaming: true})
	if err != nil {
		return nil, nil, err
	}
	defer p.Stop() // a temporary folder
	total, ends := r.clusterSize()
	r.say("loading %d Services with %d endpoints", total, ends)
	if err := p.Load(ctx, kube.LoadSpec{Services: total, Headless: total / 50, Endpoints: ends}); err != nil {
		return nil, nil, err
	}
	for _, c := range changing {
		spec := kube.LoadSpec{Prefix: c.prefix, Namespaces: 1, Services: c.services, Headless: c.services,
			Endpoints: c.services * c.endpoints, FirstAddress: netip.MustParseAddr(c.first)}
		if err := p.Load(ctx, spec); err != nil {
			return nil, nil, err
		}
		if err := stampSlices(ctx, p, c.prefix+"-0"); err != nil {
			return nil, nil, err
		}
	}
	lists := map[string][]frame{}
	for _, path := range []string{"/api/v1/namespaces", "/api/v1/services", slicePath} {
		if lists[path], err = recordList(ctx, p, path); err != nil {
			return nil, nil, err
		}
	}
	changes := make([][]*change, len(changing))
	for i, c := range changing {
		for _, f := range lists[slicePath] {
			if !bytes.Contains(f, []byte(c.prefix+"-0")) {
				continue
			}
			ch, err := changeOf(f)
			if err != nil {
				return nil, nil, err
			}
			changes[i] = append(changes[i], ch)
		}
	}
	if err := r.throughAPI(ctx, out, p); err != nil {
		return nil, nil, err
	}
	s, err := startStub(ctx, lists)
	return s, changes, err
}

// buckets is a native histogram: counts by bucket, whose upper bound is a power of the base.
type buckets struct {
	schema int32
	counts map[int]int64
}

// published writes the figures of some changes.
func (out *Result) published(name string, before, after times, limit float64, sent int, length time.Duration, from string) error {
	own, all := after.own.minus(before.own), after.all.minus(before.all)
	if own.count() == 0 || all.count() == 0 {
		return fmt.Errorf("%s: %d changes were sent, %d and %d are in the process's histograms", name, sent, own.count(), all.count())
	}
	out.figure("godwit", name+", from reading a change: p50", 1000*own.quantile(0.5), "ms", 0, "")
	out.figure("godwit", name+", from reading a change: p99", 1000*own.quantile(0.99), "ms", limit,
		fmt.Sprintf("%d changes, %.0f a second, %d counted", sent, float64(sent)/length.Seconds(), own.count()))
	out.figure("godwit", name+", from "+from+": p50", 1000*all.quantile(0.5), "ms", 0, "")
	out.figure("godwit", name+", from "+from+": p99", 1000*all.quantile(0.99), "ms", 0, "")
	return nil
}

// times are the process's own histograms of the time to publication.
type times struct {
	own buckets // from reading a change
	all buckets // from the time of the change that the slice tells
}

func readTimes(ctx context.Context, url string) (times, error) {
	b := times{buckets{counts: map[int]int64{}}, buckets{counts: map[int]int64{}}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return b, err
	}
	format := expfmt.NewFormat(expfmt.TypeProtoDelim)
	req.Header.Set("Accept", string(format))
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return b, err
	}
	defer resp.Body.Close()
	for d := expfmt.NewDecoder(resp.Body, expfmt.ResponseFormat(resp.Header)); ; {
		var family dto.MetricFamily
		if err := d.Decode(&family); err == io.EOF {
			return b, nil
		} else if err != nil {
			return b, fmt.Errorf("%s: %w", url, err)
		}
		for _, m := range family.Metric {
			switch family.GetName() {
			case "coredns_kubernetes_dns_programming_duration_seconds":
				b.all.add(m.Histogram)
			case "godwit_kubernetes_publish_duration_seconds":
				b.own.add(m.Histogram)
			}
		}
	}
}

// add reads the spans and deltas in which native histograms are written.
func (b *buckets) add(h *dto.Histogram) {
	b.schema = h.GetSchema()
	at, delta, count := 0, 0, int64(0)
	for _, span := range h.GetPositiveSpan() {
		at += int(span.GetOffset())
		for range span.GetLength() {
			count += h.GetPositiveDelta()[delta]
			b.counts[at] += count
			delta, at = delta+1, at+1
		}
	}
}

func (b buckets) minus(c buckets) buckets {
	out := buckets{b.schema, map[int]int64{}}
	for i, n := range b.counts {
		out.counts[i] = n - c.counts[i]
	}
	return out
}

func (b buckets) count() (n int64) {
	for _, c := range b.counts {
		n += c
	}
	return n
}

// quantile gives the upper bound of the bucket in which the quantile lies.
func (b buckets) quantile(q float64) float64 {
	left := int64(math.Ceil(q * float64(b.count())))
	for i := -1000; i < 1000; i++ {
		if left -= b.counts[i]; left <= 0 && b.counts[i] > 0 {
			return math.Exp2(float64(i) * math.Exp2(-float64(b.schema)))
		}
	}
	return 0
}
