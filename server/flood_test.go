//go:build linux && !portable && !race

package server

import (
	"math"
	"net"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/godwit-dns/godwit/chain"
)

// Not under the race detector: it makes the server so slow that the test's own flood leaves it no processor.

// TestFloodLeavesOthersTheirs floods one loop from one address, far beyond what it can answer, while others ask now and then.
// How much they lose depends on the machine, too: compared is with a server that is not fair.
func TestFloodLeavesOthersTheirs(t *testing.T) {
	unfair, fair := lostBeside(t, false), lostBeside(t, true)
	t.Logf("others lose %.1f %%, and %.1f %% without fairness", 100*fair, 100*unfair)
	if unfair < 0.1 {
		t.Fatalf("without fairness others lose only %.1f %%: the flood shows nothing", 100*unfair)
	}
	if fair > unfair/4 {
		t.Errorf("others lose %.1f %%, and %.1f %% without fairness", 100*fair, 100*unfair)
	}
}

// lostBeside gives the part of the queries of four clients that is lost beside a flood.
func lostBeside(t *testing.T, fair bool) float64 {
	r := startRig(t, freePort(t), Options{Loops: 1}, "127.0.0.1")
	defer r.stop()
	if !fair {
		_ = r.s.workers[0].RunOn(t.Context(), func(*chain.Worker) {
			for _, l := range r.s.listeners {
				l.udp[0][0].fair.skip = math.MaxInt
			}
		})
	}
	to := &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: r.port}
	over := make(chan struct{})
	var flood, others sync.WaitGroup
	flooder := dialFrom(t, "127.0.0.2", to)
	flood.Go(func() {
		for q := query("busy.example.", 1, 0); ; {
			select {
			case <-over:
				return
			default:
				_, _ = flooder.Write(q)
			}
		}
	})
	time.Sleep(500 * time.Millisecond)
	var sent, got [4]int
	for i := range sent {
		c := dialFrom(t, "127.0.0."+strconv.Itoa(10+i), to)
		others.Go(func() {
			sent[i], got[i] = askNowAndThen(c, time.Second)
		})
	}
	others.Wait()
	close(over)
	flood.Wait()
	asked, answers := 0, 0
	for i := range sent {
		asked, answers = asked+sent[i], answers+got[i]
	}
	w := r.s.workers[0]
	t.Logf("fair: %v; %d of %d answered, %d of %d received were dropped, %d times thinned", fair, answers, asked,
		w.unfair.Value(), w.datagrams.Value(), w.thinned.Value())
	return 1 - float64(answers)/float64(asked)
}

// askNowAndThen asks every 5 ms and counts what is sent and answered.
func askNowAndThen(c *net.UDPConn, length time.Duration) (sent, got int) {
	end := time.Now().Add(length)
	var answers sync.WaitGroup
	answers.Go(func() {
		_ = c.SetReadDeadline(end.Add(time.Second))
		for b := make([]byte, 512); ; got++ {
			if _, err := c.Read(b); err != nil {
				return
			}
		}
	})
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for ; time.Now().Before(end); sent++ {
		<-tick.C
		_, _ = c.Write(query("busy.example.", uint16(sent), 0))
	}
	answers.Wait()
	return sent, got
}
