// Package sigv4 reads, checks and makes requests that are signed as AWS
// Signature Version 4 says
// (docs.aws.amazon.com, "Create a signed AWS API request"). It knows no
// credential and no clock: who may sign, and when, is decided by its callers.
package sigv4

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"fmt"
	"strings"
	"time"
)

const (
	// Algorithm is how an Authorization header of a signed request begins.
	Algorithm = "AWS4-HMAC-SHA256"
	// Service is the one that requests to Strongroom are signed for.
	Service = "strongroom"

	terminator = "aws4_request"
	timeForm   = "20060102T150405Z"
	dateChars  = len("20060102")

	// KeyIDPrefix begins the id of every access key; KeyIDChars is its length.
	KeyIDPrefix = "SRAK"
	KeyIDChars  = 20

	maxRegion  = 64
	maxHeaders = 32
	// maxHead bounds what a follower hands on of one request.
	maxHead = 4 << 10
)

// Request is a signed request without its body: all that is needed to tell
// whether the holder of a secret signed it.
type Request struct {
	KeyID  string    `json:"keyId"`
	Region string    `json:"region"`
	Time   time.Time `json:"time"` // X-Amz-Date, of whole seconds
	// Head is the canonical request up to the hash of the body: method, URI,
	// query, the signed headers with their values, and their names. Its lines
	// end in a newline.
	Head      []byte            `json:"head"`
	Signature [sha256.Size]byte `json:"signature"`
}

// Date is the day of the credential scope.
func (r *Request) Date() string { return r.Time.Format(timeForm)[:dateChars] }

// Is reports whether the head names this method and URI, and no query.
func (r *Request) Is(method, uri string) bool {
	return strings.HasPrefix(string(r.Head), method+"\n"+uri+"\n\n")
}

// Check holds a Request that another node handed on against the grammar.
func (r *Request) Check() error {
	if !ValidKeyID(r.KeyID) || !validRegion(r.Region) || len(r.Head) > maxHead || r.Time.IsZero() || r.Time.Nanosecond() != 0 || r.Time.Location() != time.UTC {
		return fmt.Errorf("sigv4: a signed request that was handed on is malformed")
	}
	return nil
}

// SignedBy reports whether Signature is of this request with this body under
// dateKey, the DateKey of Date. It compares in constant time.
func (r *Request) SignedBy(dateKey [sha256.Size]byte, body []byte) bool {
	want := r.sign(dateKey, Service, body)
	defer clear(want[:])
	return subtle.ConstantTimeCompare(want[:], r.Signature[:]) == 1
}

// sign follows the chain of the specification from the date key on: region,
// service, terminator, and then the string to sign.
func (r *Request) sign(dateKey [sha256.Size]byte, forService string, body []byte) [sha256.Size]byte {
	region := mac(dateKey[:], r.Region)
	service := mac(region[:], forService)
	key := mac(service[:], terminator)
	defer clear(region[:])
	defer clear(service[:])
	defer clear(key[:])
	payload := sha256.Sum256(body)
	canonical := sha256.New()
	canonical.Write(r.Head)
	canonical.Write([]byte(hex.EncodeToString(payload[:])))
	return mac(key[:], strings.Join([]string{
		Algorithm, r.Time.Format(timeForm), r.scope(forService), hex.EncodeToString(canonical.Sum(nil)),
	}, "\n"))
}

func (r *Request) scope(service string) string {
	return strings.Join([]string{r.Date(), r.Region, service, terminator}, "/")
}

// DateKey answers the key of one day ("20260304"), from which those of all
// regions follow. secret stays the caller's to wipe, and so does the answer.
func DateKey(secret []byte, date string) [sha256.Size]byte {
	key := make([]byte, 0, len("AWS4")+len(secret))
	key = append(append(key, "AWS4"...), secret...)
	defer clear(key)
	return mac(key, date)
}

func mac(key []byte, text string) [sha256.Size]byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(text))
	return [sha256.Size]byte(h.Sum(nil))
}

// ValidKeyID reports whether id has the form of the id of an access key.
func ValidKeyID(id string) bool {
	if len(id) != KeyIDChars || !strings.HasPrefix(id, KeyIDPrefix) {
		return false
	}
	for _, c := range []byte(id) {
		if !('A' <= c && c <= 'Z' || '2' <= c && c <= '7') {
			return false
		}
	}
	return true
}

// validRegion takes any text that cannot be read in two ways: the region
// means nothing here.
func validRegion(region string) bool {
	if region == "" || len(region) > maxRegion {
		return false
	}
	for _, c := range []byte(region) {
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-' || c == '_') {
			return false
		}
	}
	return true
}
