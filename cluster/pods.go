package cluster

// putPod takes a pod. One that is being deleted is neither added nor changed: it stays as it was until it is gone.
func (s *store) putPod(o *object) {
	s.key = o.appendKey(s.key[:0])
	e := s.pods[string(s.key)]
	if e != nil {
		e.generation = s.generation[kindPod]
		if s.older(o, e.version) {
			return
		}
	}
	if ended(o.phase) {
		s.dropPod(string(s.key))
		return
	}
	addr, ok := parseAddr(o.podIP)
	if o.deleting || (e == nil && !ok) {
		return
	}
	if !ok {
		s.dropPod(string(s.key))
		return
	}
	if e == nil {
		key := string(s.key)
		e = &podEntry{id: s.podTable.take(), generation: s.generation[kindPod]}
		s.pods[key] = e
		// Its name is the key's end: with 150,000 pods a copy of it costs megabytes.
		s.podTable.set(e.id, &Pod{Addr: addr, Name: key[len(key)-len(o.name):], Namespace: intern(o.namespace), Labels: s.podLabels(o)})
		s.podTable.insert(s.hashAddr(addr), e.id)
		s.changed(false)
	} else if old := s.podTable.get(e.id); old.Addr != addr {
		s.podTable.set(e.id, &Pod{Addr: addr, Name: old.Name, Namespace: old.Namespace, Labels: s.podLabels(o)})
		s.podTable.insert(s.hashAddr(addr), e.id)
		s.podTable.remove(s.hashAddr(old.Addr), e.id)
		s.changed(false)
	} else if s.packing.podLabels {
		s.podTable.set(e.id, &Pod{Addr: addr, Name: old.Name, Namespace: old.Namespace, Labels: s.podLabels(o)})
	}
	e.version = o.version
}

// podLabels gives the labels that are kept of a pod.
func (s *store) podLabels(o *object) (list []string) {
	if s.packing.podLabels {
		for _, l := range o.labels {
			list = append(list, intern(l.key), intern(l.value))
		}
	}
	return list
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
