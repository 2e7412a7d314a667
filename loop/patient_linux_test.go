//go:build !portable

package loop

import (
	"testing"
	"time"
)

// patientPair is a loop with a file of a client's and a patient one, and the clock.
func patientPair(t *testing.T) (l *Loop, now *time.Duration, client, server *pipe) {
	l, now = virtual(t)
	client, server = newPipe(t), newPipe(t)
	if err := l.Add(client.r, client, false); err != nil {
		t.Fatal(err)
	}
	if err := l.AddPatient(server.r, server, false); err != nil {
		t.Fatal(err)
	}
	return l, now, client, server
}

// busy wakes the loop by the client n times, a pause apart.
func busy(l *Loop, now *time.Duration, client *pipe, n int, pause time.Duration) {
	for range n {
		client.feed()
		*now += pause
		l.Turn(true)
	}
}

func TestPatientFilesWaitForBusyClients(t *testing.T) {
	l, now, client, server := patientPair(t)
	busy(l, now, client, 3*judgeOver, 2*often)
	if l.poll.patient.held {
		t.Error("held although nobody else is busy")
	}
	server.feed()
	if l.Turn(true); server.reads != 1 {
		t.Errorf("a file that is not held was read %d times", server.reads)
	}
	busy(l, now, client, 2*judgeOver, often/2)
	if !l.poll.patient.held {
		t.Fatal("not held although clients wake the loop all the time")
	}
	before := client.reads
	var order []string
	client.then = func(*Loop) { order = append(order, "client") }
	server.then = func(*Loop) { order = append(order, "server") }
	server.feed()
	busy(l, now, client, 1, often/2)
	if client.reads != before+1 || server.reads != 2 || len(order) != 2 || order[0] != "server" {
		t.Errorf("one turn read %v", order)
	}
}

// What is held is read soon when nobody else comes, and wakes the loop again from then on.
func TestHeldFilesAreNotForgotten(t *testing.T) {
	l, now, client, server := patientPair(t)
	busy(l, now, client, 3*judgeOver, often/2)
	if !l.poll.patient.held {
		t.Fatal("not held")
	}
	server.feed()
	for i := 0; l.poll.patient.held; i++ {
		if i == 10 {
			t.Fatal("held although clients have gone")
		}
		l.Turn(true)
	}
	if server.reads != 1 {
		t.Errorf("read %d times", server.reads)
	}
	busy(l, now, client, 2*judgeOver, often/2)
	if l.poll.patient.held {
		t.Error("held again at once: clients may have waited for what was held")
	}
	busy(l, now, client, int(holdAgain/often)*2+judgeOver, often/2)
	if !l.poll.patient.held {
		t.Error("never held again")
	}
	l.Remove(server.r)
	server.feed()
	if busy(l, now, client, 1, often/2); server.reads != 1 {
		t.Error("read after it was removed")
	}
}
