package api

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/engine"
)

// FuzzHandler sends what it likes to every operation, as the administrator
// and as nobody: whatever comes, the answer has the shape of one, no request
// is a fault of ours, and nobody without a credential gets anything.
func FuzzHandler(f *testing.F) {
	n := single(f, nil)
	n.ok("secrets/createSecret", `{"path":"/a/b","value":"`+mark+`"}`)
	for i, o := range engine.Operations() {
		if fields, ok := wrap[o.Path()]; ok {
			f.Add(uint8(i), true, []byte("{"+fields+"}"))
			f.Add(uint8(i), false, []byte("{"+fields+"}"))
		}
	}
	for _, c := range syntax() {
		f.Add(uint8(7), true, []byte(c.body))
	}
	f.Add(uint8(38), true, []byte(`{"cursor":"1.bnVsbA"}`))
	f.Fuzz(func(t *testing.T, which uint8, known bool, body []byte) {
		o := engine.Operations()[int(which)%len(engine.Operations())]
		if o.Path() == "iam/detachPolicy" || o.Path() == "iam/revokeToken" || o.Path() == "iam/putAccessPolicy" {
			return // may lock out the only caller there is
		}
		r := httptest.NewRequest(http.MethodPost, prefix+o.Path(), strings.NewReader(string(body)))
		if known {
			r.Header.Set("Authorization", "Bearer "+n.admin)
		}
		w := httptest.NewRecorder()
		n.server.public.Handler.ServeHTTP(w, r)
		got := reply{status: w.Code, header: w.Header(), body: w.Body.String()}
		if w.Code == http.StatusOK {
			require.True(t, known)
			require.Equal(t, "no-store", w.Header().Get("Cache-Control"))
			return
		}
		e := got.failed(t)
		if o.Path() != "cluster/transferLeadership" { // nobody is wired up to hand over to
			require.NotEqual(t, "Internal", e.Code, "%s %q", o.Path(), body)
		}
		if !known {
			require.Contains(t, []string{"Unauthenticated", "InvalidRequest", "RateLimited"}, e.Code)
		}
	})
}
