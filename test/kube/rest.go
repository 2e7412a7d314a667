package kube

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"sigs.k8s.io/yaml"
)

const (
	jsonType  = "application/json"
	applyType = "application/apply-patch+yaml" // server-side apply; JSON is YAML
)

// StatusError is an answer of the API server that is not 2xx.
type StatusError struct {
	Code    int // HTTP status
	Request string
	Message string // from the body's Status object, or the body itself
}

func (e *StatusError) Error() string {
	return fmt.Sprintf("kube-apiserver: %s: %d: %s", e.Request, e.Code, e.Message)
}

// Do sends a request as the administrator and returns the answer's body. path
// begins with a slash and may have a query. body may be nil, else it is JSON.
// An answer that is not 2xx is a *StatusError.
func (p *Plane) Do(ctx context.Context, method, path string, body []byte) ([]byte, error) {
	return p.do(ctx, method, path, jsonType, body)
}

func (p *Plane) do(ctx context.Context, method, path, contentType string, body []byte) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, p.URL()+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", contentType)
	req.Header.Set("Accept", jsonType)
	resp, err := p.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, fmt.Errorf("%s %s: reading the answer: %w", method, path, err)
	}
	if resp.StatusCode >= 200 && resp.StatusCode <= 299 {
		return answer, nil
	}
	failure := &StatusError{Code: resp.StatusCode, Request: method + " " + path, Message: strings.TrimSpace(string(answer))}
	var status struct {
		Message string `json:"message"`
	}
	if json.Unmarshal(answer, &status) == nil && status.Message != "" {
		failure.Message = status.Message
	}
	return nil, failure
}

// Apply creates or changes each object of a YAML or JSON text, in its order,
// with a server-side apply. Documents are separated by lines that begin with
// "---"; a List stands for its items. A status is applied as well, where the
// kind has one. Unknown fields are errors.
func (p *Plane) Apply(ctx context.Context, manifests string) error {
	objects, err := decode(manifests)
	if err != nil {
		return err
	}
	for _, o := range objects {
		if err := p.apply(ctx, o); err != nil {
			return fmt.Errorf("%s %s: %w", o.Kind, o.Metadata.Name, err)
		}
	}
	return nil
}

func (p *Plane) apply(ctx context.Context, o object) error {
	const query = "?fieldManager=godwit-test&force=true&fieldValidation=Strict"
	r, err := p.resourceOf(ctx, o.APIVersion, o.Kind)
	if err != nil {
		return err
	}
	path := r.path(o)
	if _, err := p.do(ctx, http.MethodPatch, path+query, applyType, o.text); err != nil {
		return err
	}
	if !o.hasStatus() || !r.status {
		return nil
	}
	_, err = p.do(ctx, http.MethodPatch, path+"/status"+query, applyType, o.text)
	return err
}

// Delete deletes each object of the text, in its order. One that does not
// exist is no error.
func (p *Plane) Delete(ctx context.Context, manifests string) error {
	objects, err := decode(manifests)
	if err != nil {
		return err
	}
	for _, o := range objects {
		r, err := p.resourceOf(ctx, o.APIVersion, o.Kind)
		if err != nil {
			return err
		}
		// Without the grace period a Pod would wait for a kubelet for ever.
		_, err = p.Do(ctx, http.MethodDelete, r.path(o)+"?gracePeriodSeconds=0", nil)
		if isCode(err, http.StatusNotFound) {
			continue
		}
		if err != nil {
			return fmt.Errorf("%s %s: %w", o.Kind, o.Metadata.Name, err)
		}
	}
	return nil
}

// isCode reports whether err is a *StatusError with this HTTP status.
func isCode(err error, code int) bool {
	var status *StatusError
	return errors.As(err, &status) && status.Code == code
}

// object is what has to be known of a manifest; text is all of it, as JSON.
type object struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Metadata   struct {
		Name      string `json:"name"`
		Namespace string `json:"namespace"`
	} `json:"metadata"`
	Status json.RawMessage   `json:"status"`
	Items  []json.RawMessage `json:"items"`

	text []byte
}

func (o object) hasStatus() bool { return len(o.Status) > 0 && string(o.Status) != "null" }

// decode splits a text into its objects.
func decode(manifests string) ([]object, error) {
	var objects []object
	for i, document := range documents(manifests) {
		text, err := yaml.YAMLToJSONStrict([]byte(document))
		if err != nil {
			return nil, fmt.Errorf("document %d: %w", i+1, err)
		}
		if string(text) == "null" {
			continue // nothing but comments
		}
		if objects, err = appendObjects(objects, text); err != nil {
			return nil, fmt.Errorf("document %d: %w", i+1, err)
		}
	}
	return objects, nil
}

func appendObjects(objects []object, text []byte) ([]object, error) {
	var o object
	if err := json.Unmarshal(text, &o); err != nil {
		return nil, err
	}
	if strings.HasSuffix(o.Kind, "List") && o.Metadata.Name == "" {
		var err error
		for _, item := range o.Items {
			if objects, err = appendObjects(objects, item); err != nil {
				return nil, err
			}
		}
		return objects, nil
	}
	if o.APIVersion == "" || o.Kind == "" || o.Metadata.Name == "" {
		return nil, errors.New("apiVersion, kind and metadata.name are needed")
	}
	o.text = text
	return append(objects, o), nil
}

// documents splits YAML at its separator lines.
func documents(text string) []string {
	var all []string
	var one strings.Builder
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "---") {
			all = append(all, one.String())
			one.Reset()
			continue
		}
		one.WriteString(line)
	}
	return append(all, one.String())
}

// resource is how the API server calls a kind in its paths.
type resource struct {
	prefix     string // "/api/v1" or "/apis/GROUP/VERSION"
	name       string // "services"
	namespaced bool
	status     bool // has the subresource
}

func (r resource) path(o object) string {
	if !r.namespaced {
		return r.prefix + "/" + r.name + "/" + o.Metadata.Name
	}
	namespace := o.Metadata.Namespace
	if namespace == "" {
		namespace = "default"
	}
	return r.prefix + "/namespaces/" + namespace + "/" + r.name + "/" + o.Metadata.Name
}

// resourceOf asks the API server's discovery. A kind that is not there yet is
// waited for a while: a CustomResourceDefinition takes a moment to be served.
func (p *Plane) resourceOf(ctx context.Context, apiVersion, kind string) (resource, error) {
	key := apiVersion + " " + kind
	for tries := 50; ; tries-- {
		p.kindsMu.Lock()
		r, ok := p.kinds[key]
		p.kindsMu.Unlock()
		if ok {
			return r, nil
		}
		err := p.discover(ctx, apiVersion)
		if err != nil && !isCode(err, http.StatusNotFound) {
			return resource{}, err
		}
		if err == nil && p.knows(key) {
			continue
		}
		if tries == 0 {
			return resource{}, fmt.Errorf("kube-apiserver serves no kind %s in %s", kind, apiVersion)
		}
		select {
		case <-ctx.Done():
			return resource{}, ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func (p *Plane) knows(key string) bool {
	p.kindsMu.Lock()
	defer p.kindsMu.Unlock()
	_, ok := p.kinds[key]
	return ok
}

// discover remembers all kinds of one group and version.
func (p *Plane) discover(ctx context.Context, apiVersion string) error {
	prefix := "/apis/" + apiVersion
	if !strings.Contains(apiVersion, "/") {
		prefix = "/api/" + apiVersion
	}
	body, err := p.Do(ctx, http.MethodGet, prefix, nil)
	if err != nil {
		return err
	}
	var list struct {
		Resources []struct {
			Name       string `json:"name"`
			Kind       string `json:"kind"`
			Namespaced bool   `json:"namespaced"`
		} `json:"resources"`
	}
	if err := json.Unmarshal(body, &list); err != nil {
		return fmt.Errorf("discovery of %s: %w", apiVersion, err)
	}
	withStatus := make(map[string]bool)
	for _, r := range list.Resources {
		if name, ok := strings.CutSuffix(r.Name, "/status"); ok {
			withStatus[name] = true
		}
	}
	p.kindsMu.Lock()
	defer p.kindsMu.Unlock()
	for _, r := range list.Resources {
		if strings.Contains(r.Name, "/") {
			continue
		}
		p.kinds[apiVersion+" "+r.Kind] = resource{prefix: prefix, name: r.Name, namespaced: r.Namespaced, status: withStatus[r.Name]}
	}
	return nil
}
