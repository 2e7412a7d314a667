package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sys/unix"

	"github.com/godwit-dns/godwit/test/kube"
)

// clusterQuestions asks for Services with an address.
func (r *rig) clusterQuestions() []question {
	total, _ := r.clusterSize()
	first := total / 50 // those before are headless
	return spread(1000, total-first, dns.TypeA, func(i int) string { return clusterName(first+i, total) })
}

// relistStalls: an open loop of 1,000 questions a second, first beside a process at rest, then while all resources are
// listed over and over. What a loop is late shows in the longest times.
func (r *rig) relistStalls(ctx context.Context, out *Result, s *stub, sc scene) error {
	total, _ := r.clusterSize()
	srv, err := r.start(ctx, r.subjectGodwit(sc), serverCore, clusterName(total-1, total))
	if err != nil {
		return err
	}
	defer srv.child.stop()
	if err := sleep(ctx, 2*time.Second); err != nil {
		return err
	}
	for _, again := range []bool{false, true} {
		stop, lists := func() {}, new(atomic.Int64)
		name := "1,000 questions a second, at rest"
		if again {
			name = "1,000 questions a second, while everything is listed again"
			stop = s.expireOften(ctx, lists)
		}
		l, err := openLoop(ctx, srv.addr(), r.clusterQuestions(), 1000, 4*r.opt.seconds)
		stop()
		if err != nil {
			return err
		}
		note := ""
		if again {
			note = fmt.Sprintf("listed %d times in %.0f s", lists.Load(), (4 * r.opt.seconds).Seconds())
		}
		out.figure("godwit", name+": p50", l.quantile(0.5)/1000, "ms", 0, "")
		out.figure("godwit", name+": p99", l.quantile(0.99)/1000, "ms", 0, note)
		out.figure("godwit", name+": longest", l.longest()/1000, "ms", 0, "")
		out.figure("godwit", name+": lost", 100*l.lost(), "%", 0, "")
	}
	out.note("The client that asks 1,000 questions a second never leaves its core, so the stub, which writes complete lists without a pause meanwhile, and Godwit, which reads them, share the other one: what is late then waits for the kernel's time slices.")
	return nil
}

// expireOften ends all watches whenever all three have been listed, until the function is called that it gives.
func (s *stub) expireOften(ctx context.Context, lists *atomic.Int64) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var wait sync.WaitGroup
	wait.Go(func() {
		for {
			before := s.listed.Load()
			s.expire()
			for s.listed.Load() < before+int64(len(s.lists)) {
				if sleep(ctx, 10*time.Millisecond) != nil {
					return
				}
			}
			lists.Add(1)
		}
	})
	return func() {
		cancel()
		wait.Wait()
	}
}

// patchers is how many write to the API server at once.
const patchers = 4

// throughAPI changes the same slices in the API server itself, at the rate that it reaches, on the generator's core.
func (r *rig) throughAPI(ctx context.Context, out *Result, p *kube.Plane) error {
	if err := r.pinChildren(clientCore); err != nil {
		return err
	}
	config, err := p.Kubeconfig(ctx, kube.Admin)
	if err != nil {
		return err
	}
	sc, err := r.clusterScene(config, "insecure")
	if err != nil {
		return err
	}
	for _, c := range changing {
		srv, err := r.start(ctx, r.subjectGodwit(sc), serverCore, fmt.Sprintf("service-0.%s-0.svc.cluster.local.", c.prefix))
		if err != nil {
			return err
		}
		if err := sleep(ctx, 2*time.Second); err != nil {
			return err
		}
		before, err := readTimes(ctx, srv.metrics)
		if err != nil {
			return err
		}
		length := 2 * r.opt.seconds
		var names []string
		for i := range c.services {
			for k := range c.endpoints / 100 {
				names = append(names, fmt.Sprintf("service-%d-%d", i, k))
			}
		}
		sent, err := patchSlices(ctx, p, c.prefix+"-0", names, length)
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
		name := fmt.Sprintf("Real API server, Services of %d endpoints", c.endpoints)
		if err := out.published(name, before, after, c.limit, sent, length, "sending it to the API server"); err != nil {
			return err
		}
		srv.child.stop()
	}
	return nil
}

// pinChildren puts all processes that the harness has started onto one core.
func (r *rig) pinChildren(core string) error {
	n, err := strconv.Atoi(core)
	if err != nil {
		return err
	}
	var set unix.CPUSet
	set.Set(n)
	pids, err := family(os.Getpid())
	if err != nil {
		return err
	}
	for _, pid := range pids[1:] { // the first is the harness
		tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
		if err != nil {
			continue // it has ended
		}
		for _, t := range tasks {
			if err := unix.SchedSetaffinity(int(number(t.Name())), &set); err != nil && !errors.Is(err, unix.ESRCH) {
				return fmt.Errorf("sched_setaffinity: %w", err)
			}
		}
	}
	return nil
}

// patchSlices changes an address of one slice after the other, as fast as the API server takes it, and gives how many
// changes it took.
func patchSlices(ctx context.Context, p *kube.Plane, namespace string, names []string, length time.Duration) (int, error) {
	end := time.Now().Add(length)
	var sent atomic.Int64
	var wait sync.WaitGroup
	failed := make([]error, patchers)
	for n := range patchers {
		wait.Go(func() {
			for i := n; time.Now().Before(end) && failed[n] == nil; i += patchers {
				failed[n] = patchSlice(ctx, p, namespace, names[i%len(names)], i)
				sent.Add(1)
			}
		})
	}
	wait.Wait()
	return int(sent.Load()), errors.Join(failed...)
}

// patchSlice gives the first endpoint of a slice an address that no other has, and the slice the time of its being sent.
func patchSlice(ctx context.Context, p *kube.Plane, namespace, name string, number int) error {
	patch := fmt.Sprintf(`[{"op":"replace","path":"/endpoints/0/addresses/0","value":"11.%d.%d.%d"},`+
		`{"op":"replace","path":"/metadata/annotations/endpoints.kubernetes.io~1last-change-trigger-time","value":%q}]`,
		number>>16&255, number>>8&255, number&255, time.Now().UTC().Format(stampLayout))
	req, err := http.NewRequestWithContext(ctx, http.MethodPatch,
		p.URL()+"/apis/discovery.k8s.io/v1/namespaces/"+namespace+"/endpointslices/"+name, strings.NewReader(patch))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json-patch+json")
	req.Header.Set("Accept", "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1")
	resp, err := p.HTTPClient().Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("PATCH %s/%s: %s: %s", namespace, name, resp.Status, text)
	}
	return err
}
