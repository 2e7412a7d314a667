package cluster

import (
	"encoding/json"
	"fmt"
)

// jsonObject has the fields of all five resources that DNS needs, as in the API's JSON.
type jsonObject struct {
	Kind       string `json:"kind"`
	APIVersion string `json:"apiVersion"`
	Metadata   struct {
		Name              string            `json:"name"`
		Namespace         string            `json:"namespace"`
		ResourceVersion   string            `json:"resourceVersion"`
		DeletionTimestamp *string           `json:"deletionTimestamp"`
		Labels            map[string]string `json:"labels"`
		Annotations       map[string]string `json:"annotations"`
	} `json:"metadata"`
	Spec struct {
		Type         string     `json:"type"`
		ClusterIP    string     `json:"clusterIP"`
		ClusterIPs   []string   `json:"clusterIPs"`
		IPs          []string   `json:"ips"` // ServiceImport
		ExternalName string     `json:"externalName"`
		ExternalIPs  []string   `json:"externalIPs"`
		Ports        []jsonPort `json:"ports"`
	} `json:"spec"`
	Status struct {
		Phase        string `json:"phase"`
		PodIP        string `json:"podIP"`
		LoadBalancer struct {
			Ingress []struct {
				IP       string `json:"ip"`
				Hostname string `json:"hostname"`
			} `json:"ingress"`
		} `json:"loadBalancer"`
	} `json:"status"`
	AddressType string     `json:"addressType"`
	Ports       []jsonPort `json:"ports"`
	Endpoints   []struct {
		Addresses  []string `json:"addresses"`
		Hostname   string   `json:"hostname"`
		Zone       string   `json:"zone"`
		Conditions struct {
			Ready *bool `json:"ready"`
		} `json:"conditions"`
		TargetRef *struct {
			Name string `json:"name"`
		} `json:"targetRef"`
	} `json:"endpoints"`
}

type jsonPort struct {
	Name     string `json:"name"`
	Protocol string `json:"protocol"`
	Port     *int32 `json:"port"`
}

// decodeJSON reads one object of the kind that o was reset to.
func decodeJSON(o *object, b []byte) error {
	var j jsonObject
	if err := json.Unmarshal(b, &j); err != nil {
		return fmt.Errorf("JSON does not parse: %w", err)
	}
	j.into(o)
	return nil
}

func (j *jsonObject) into(o *object) {
	m := &j.Metadata
	o.name, o.namespace, o.rawVersion = []byte(m.Name), []byte(m.Namespace), []byte(m.ResourceVersion)
	o.version = parseVersion(o.rawVersion)
	o.deleting = m.DeletionTimestamp != nil
	for k, v := range m.Labels {
		o.labels = append(o.labels, pair{[]byte(k), append([]byte{}, v...)})
	}
	if v := m.Annotations[annotationTriggered]; v != "" {
		o.triggered = []byte(v)
	}
	o.listEnd = m.Annotations[annotationListEnd] == "true"
	o.serviceType, o.clusterIP, o.externalName = []byte(j.Spec.Type), []byte(j.Spec.ClusterIP), []byte(j.Spec.ExternalName)
	for _, ip := range append(j.Spec.ClusterIPs, j.Spec.IPs...) {
		o.clusterIPs = append(o.clusterIPs, []byte(ip))
	}
	for _, ip := range j.Spec.ExternalIPs {
		o.external = append(o.external, []byte(ip))
	}
	for _, in := range j.Status.LoadBalancer.Ingress {
		if in.IP == "" {
			in.IP = in.Hostname
		}
		if in.IP != "" {
			o.external = append(o.external, []byte(in.IP))
		}
	}
	ports := j.Spec.Ports
	if o.kind == kindSlice {
		ports = j.Ports
	}
	for _, p := range ports {
		q := objectPort{name: []byte(p.Name), protocol: []byte(p.Protocol), port: noPort}
		switch {
		case p.Port != nil:
			q.port = *p.Port
		case o.kind != kindSlice:
			q.port = 0
		}
		o.ports = append(o.ports, q)
	}
	o.phase, o.podIP, o.addressType = []byte(j.Status.Phase), []byte(j.Status.PodIP), []byte(j.AddressType)
	j.endpoints(o)
}

func (j *jsonObject) endpoints(o *object) {
	for i := range j.Endpoints {
		e := &j.Endpoints[i]
		if e.Conditions.Ready != nil && !*e.Conditions.Ready {
			continue
		}
		oe := objectEndpoint{hostname: []byte(e.Hostname), zone: []byte(e.Zone)}
		if e.TargetRef != nil {
			oe.target = []byte(e.TargetRef.Name)
		}
		for _, a := range e.Addresses {
			oe.address = []byte(a)
			o.endpoints = append(o.endpoints, oe)
		}
	}
}

// statusJSON reads a metav1.Status.
func statusJSON(b []byte) (status, error) {
	var j struct {
		Message string `json:"message"`
		Reason  string `json:"reason"`
		Code    int    `json:"code"`
		Details struct {
			RetryAfterSeconds int `json:"retryAfterSeconds"`
			Causes            []struct {
				Reason string `json:"reason"`
			} `json:"causes"`
		} `json:"details"`
	}
	if err := json.Unmarshal(b, &j); err != nil {
		return status{}, fmt.Errorf("JSON does not parse: %w", err)
	}
	st := status{message: j.Message, reason: j.Reason, code: j.Code, retryAfter: j.Details.RetryAfterSeconds}
	for _, c := range j.Details.Causes {
		st.tooLarge = st.tooLarge || c.Reason == causeTooLarge
	}
	return st, nil
}
