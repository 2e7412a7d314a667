package cluster

// putPod takes a pod. One that is being deleted is neither added nor changed: it stays as it was until it is gone.
func (s *store) putPod(o *object) {
	key := o.key()
	e := s.pods[key]
	if e != nil {
		e.generation = s.generation[kindPod]
		if s.older(o, e.version) {
			return
		}
	}
	if ended(o.phase) {
		s.dropPod(key)
		return
	}
	addr, ok := parseAddr(o.podIP)
	if o.deleting || (e == nil && !ok) {
		return
	}
	if !ok {
		s.dropPod(key)
		return
	}
	p := &Pod{Addr: addr, Name: string(o.name), Namespace: intern(o.namespace)}
	if s.packing.podLabels {
		for _, l := range o.labels {
			p.Labels = append(p.Labels, intern(l.key), intern(l.value))
		}
	}
	if e == nil {
		e = &podEntry{id: s.podTable.take(), generation: s.generation[kindPod]}
		s.pods[key] = e
		s.podTable.set(e.id, p)
		s.podTable.insert(s.hashAddr(addr), e.id)
		s.changed(false)
	} else if old := s.podTable.get(e.id); old.Addr != addr {
		s.podTable.set(e.id, p)
		s.podTable.insert(s.hashAddr(addr), e.id)
		s.podTable.remove(s.hashAddr(old.Addr), e.id)
		s.changed(false)
	} else if s.packing.podLabels {
		s.podTable.set(e.id, p)
	}
	e.version = o.version
}

// ended reports whether a pod in this phase is none for DNS: its address may belong to another by now.
func ended(phase []byte) bool {
	switch string(phase) {
	case "Succeeded", "Failed", "Unknown":
		return true
	}
	return false
}

func (s *store) dropPod(key string) {
	e := s.pods[key]
	if e == nil {
		return
	}
	s.podTable.remove(s.hashAddr(s.podTable.get(e.id).Addr), e.id)
	s.podTable.release(e.id)
	delete(s.pods, key)
	s.changed(false)
}
