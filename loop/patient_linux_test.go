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

// busy wakes the loop by the client n times, a pause apart. The server has something each time, unless it is nil.
func busy(l *Loop, now *time.Duration, client, server *pipe, n int, pause time.Duration) {
	for range n {
		client.feed()
		if server != nil {
			server.feed()
		}
		*now += pause
		l.Turn(true)
	}
}

func TestPatientFilesWaitForBusyClients(t *testing.T) {
	l, now, client, server := patientPair(t)
	busy(l, now, client, server, 3*judgeOver, 2*often)
	if l.poll.patient.held {
		t.Error("held although nobody else is busy")
	}
	reads := server.reads
	server.feed()
	if l.Turn(true); server.reads != reads+1 {
		t.Errorf("a file that is not held was read %d times", server.reads-reads)
	}
	busy(l, now, client, nil, 3*judgeOver, often/2)
	if l.poll.patient.held {
		t.Error("held although it never has anything")
	}
	busy(l, now, client, server, 2*judgeOver, often/2)
	if !l.poll.patient.held {
		t.Fatal("not held although clients wake the loop all the time")
	}
	before := client.reads
	reads = server.reads
	var order []string
	client.then = func(*Loop) { order = append(order, "client") }
	server.then = func(*Loop) { order = append(order, "server") }
	server.feed()
	busy(l, now, client, nil, 1, often/2)
	if client.reads != before+1 || server.reads != reads+1 || len(order) != 2 || order[0] != "server" {
		t.Errorf("one turn read %v", order)
	}
}

// What is held is read soon when nobody else comes, and wakes the loop again from then on.
func TestHeldFilesAreNotForgotten(t *testing.T) {
	l, now, client, server := patientPair(t)
	busy(l, now, client, server, 3*judgeOver, often/2)
	if !l.poll.patient.held {
		t.Fatal("not held")
	}
	reads := server.reads
	server.feed()
	for i := 0; l.poll.patient.held; i++ {
		if i == 10 {
			t.Fatal("held although clients have gone")
		}
		l.Turn(true)
	}
	if server.reads != reads+1 {
		t.Errorf("read %d times", server.reads-reads)
	}
	busy(l, now, client, server, 2*judgeOver, often/2)
	if l.poll.patient.held {
		t.Error("held again at once: clients may have waited for what was held")
	}
	busy(l, now, client, server, int(holdAgain/often)*2+judgeOver, often/2)
	if !l.poll.patient.held {
		t.Error("never held again")
	}
	l.Remove(server.r)
	reads = server.reads
	if busy(l, now, client, server, 1, often/2); server.reads != reads {
		t.Error("read after it was removed")
	}
}
