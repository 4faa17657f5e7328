package sigv4

import (
	"encoding/hex"
	"errors"
	"net/http"
	"time"
)

// DefaultRegion is what a client writes into the scope. Servers take any.
const DefaultRegion = "local"

// Sign signs a request of a client that is about to be sent with body, now.
// It sets X-Amz-Date and Authorization, and signs host, content-type and the
// date. secret stays the caller's to wipe.
func Sign(r *http.Request, keyID string, secret, body []byte, now time.Time) error {
	if !ValidKeyID(keyID) || len(secret) == 0 {
		return errors.New("sigv4: no access key to sign with: its id begins with " + KeyIDPrefix + " and has 20 characters, and its secret is not empty")
	}
	out := &Request{KeyID: keyID, Region: DefaultRegion, Time: now.UTC().Truncate(time.Second)}
	r.Header.Set(headerDate, out.Time.Format(timeForm))
	names := []string{"host", "x-amz-date"}
	if r.Header.Get("Content-Type") != "" {
		names = []string{"content-type", "host", "x-amz-date"}
	}
	arriving := &http.Request{Method: r.Method, RequestURI: r.URL.Path, Host: r.Host, Header: r.Header}
	if arriving.Host == "" {
		arriving.Host = r.URL.Host
	}
	out.Head = head(arriving, names)
	key := DateKey(secret, out.Date())
	defer clear(key[:])
	signature := out.sign(key, Service, body)
	signed := ""
	for i, name := range names {
		if i > 0 {
			signed += ";"
		}
		signed += name
	}
	r.Header.Set("Authorization", Algorithm+" Credential="+keyID+"/"+out.scope(Service)+", SignedHeaders="+signed+", Signature="+hex.EncodeToString(signature[:]))
	return nil
}
