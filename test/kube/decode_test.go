package kube

import (
	"strings"
	"testing"
)

func TestDecode(t *testing.T) {
	for _, test := range []struct{ name, text, want, wrong string }{
		{name: "documents", text: "# only a comment\n---\napiVersion: v1\nkind: A\nmetadata: {name: a}\n---\n\n--- # b\napiVersion: v1\nkind: B\nmetadata: {name: b}\n", want: "A/a B/b"},
		{name: "list", text: "apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: A, metadata: {name: a}}\n- {apiVersion: v1, kind: B, metadata: {name: b}}\n", want: "A/a B/b"},
		{name: "json", text: `{"apiVersion":"v1","kind":"A","metadata":{"name":"a"}}`, want: "A/a"},
		{name: "kind that ends in List", text: "apiVersion: v1\nkind: AllowList\nmetadata: {name: a}\n", want: "AllowList/a"},
		{name: "no name", text: "apiVersion: v1\nkind: A\n", wrong: "document 1"},
		{name: "key twice", text: "apiVersion: v1\nkind: A\nkind: B\nmetadata: {name: a}\n", wrong: "document 1"},
	} {
		t.Run(test.name, func(t *testing.T) {
			objects, err := decode(test.text)
			if test.wrong != "" {
				if err == nil || !strings.Contains(err.Error(), test.wrong) {
					t.Errorf("error %v, want one that names %q", err, test.wrong)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, o := range objects {
				got = append(got, o.Kind+"/"+o.Metadata.Name)
			}
			if s := strings.Join(got, " "); s != test.want {
				t.Errorf("got %s, want %s", s, test.want)
			}
		})
	}
}
