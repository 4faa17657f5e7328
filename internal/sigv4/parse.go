package sigv4

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// The headers that signed requests have besides Authorization.
const (
	headerDate    = "X-Amz-Date"
	headerPayload = "X-Amz-Content-Sha256"
	headerToken   = "X-Amz-Security-Token"
)

// ErrUnsignedPayload is for a request that leaves its body out of the
// signature.
var ErrUnsignedPayload = errors.New("X-Amz-Content-Sha256: must be the SHA-256 of the body, or left out; a body that is not signed is not accepted")

// Is reports whether an Authorization header is meant as that of a signed
// request.
func Is(authorization string) bool { return strings.HasPrefix(authorization, "AWS4-") }

// Parse reads the signature of a request as it arrived. What two programs
// could read in two ways is refused. Errors name the part that is wrong and
// hold nothing of the input.
func Parse(r *http.Request) (*Request, error) {
	parts, err := splitAuthorization(r.Header.Get("Authorization"))
	if err != nil {
		return nil, err
	}
	out := &Request{}
	date, err := out.readCredential(parts[0])
	if err != nil {
		return nil, err
	}
	if out.Time, err = readTime(r.Header); err != nil {
		return nil, err
	}
	if out.Date() != date {
		return nil, errors.New("X-Amz-Date: must be of the day that Credential names")
	}
	if out.Signature, err = readSignature(parts[2]); err != nil {
		return nil, err
	}
	if err := checkPayload(r.Header); err != nil {
		return nil, err
	}
	names := strings.Split(parts[1], ";")
	if err := checkNames(names, r.Header); err != nil {
		return nil, err
	}
	out.Head = head(r, names)
	if len(out.Head) > maxHead {
		return nil, authorization("the signed headers are too long; sign only host, content-type and x-amz-date")
	}
	return out, nil
}

// splitAuthorization answers the values of Credential, SignedHeaders and
// Signature. They come in this order, once each, as every signer writes them.
func splitAuthorization(text string) (parts [3]string, err error) {
	wrong := authorization("must be \"" + Algorithm + " Credential=…, SignedHeaders=…, Signature=…\"")
	rest, ok := strings.CutPrefix(text, Algorithm+" ")
	if !ok {
		return parts, wrong
	}
	pieces := strings.Split(rest, ",")
	if len(pieces) != len(parts) {
		return parts, wrong
	}
	for i, name := range []string{"Credential=", "SignedHeaders=", "Signature="} {
		piece := pieces[i]
		if i > 0 {
			piece = strings.TrimPrefix(piece, " ")
		}
		if parts[i], ok = strings.CutPrefix(piece, name); !ok || parts[i] == "" {
			return parts, wrong
		}
	}
	return parts, nil
}

// readCredential reads KEYID/DATE/REGION/SERVICE/aws4_request and answers the
// date.
func (r *Request) readCredential(text string) (date string, err error) {
	fields := strings.Split(text, "/")
	if len(fields) != 5 || !ValidKeyID(fields[0]) || !validRegion(fields[2]) {
		return "", authorization("Credential must be ACCESSKEYID/YYYYMMDD/REGION/" + Service + "/" + terminator)
	}
	if fields[3] != Service || fields[4] != terminator {
		return "", authorization("Credential must be for the service " + Service + " and end in " + terminator)
	}
	r.KeyID, r.Region = fields[0], fields[2]
	return fields[1], nil
}

func readTime(h http.Header) (time.Time, error) {
	wrong := errors.New("X-Amz-Date: must be there once, as YYYYMMDDTHHMMSSZ")
	values := h.Values(headerDate)
	if len(values) != 1 {
		return time.Time{}, wrong
	}
	at, err := time.Parse(timeForm, values[0])
	if err != nil || at.Format(timeForm) != values[0] || at.Year() < 1 {
		return time.Time{}, wrong
	}
	return at.UTC(), nil
}

func readSignature(text string) (out [sha256.Size]byte, err error) {
	raw, err := hex.DecodeString(text)
	if err != nil || len(raw) != len(out) || text != strings.ToLower(text) {
		return out, authorization("Signature must be 64 hexadecimal digits, in lower case")
	}
	return [sha256.Size]byte(raw), nil
}

// checkPayload refuses the words that stand for a body outside the signature.
// A hash that is not that of the body does no harm: what is checked is always
// the hash of the body that was read.
func checkPayload(h http.Header) error {
	values := h.Values(headerPayload)
	if len(values) == 0 {
		return nil
	}
	if raw, err := hex.DecodeString(values[0]); err != nil || len(raw) != sha256.Size || len(values) > 1 {
		return ErrUnsignedPayload
	}
	return nil
}

// checkNames holds the names of the signed headers against those that must be
// signed: host, the content type, and whatever speaks to a verifier.
func checkNames(names []string, h http.Header) error {
	if len(names) > maxHeaders {
		return authorization("SignedHeaders has too many names")
	}
	for i, name := range names {
		if !isHeaderName(name) || i > 0 && names[i-1] >= name {
			return authorization("SignedHeaders must be names of headers in lower case, each once, in order, with semicolons between them")
		}
		if name == "authorization" || name == "transfer-encoding" {
			return authorization("SignedHeaders names a header that cannot be signed")
		}
		if name != "host" && name != "content-length" && len(h.Values(name)) == 0 {
			return authorization("SignedHeaders names a header that the request does not have")
		}
	}
	if !slices.Contains(names, "host") {
		return authorization("SignedHeaders must name host")
	}
	if len(h.Values(headerToken)) > 0 {
		return errors.New("X-Amz-Security-Token: is not accepted; access keys have no session")
	}
	for name := range h {
		lower := strings.ToLower(name)
		if (lower == "content-type" || strings.HasPrefix(lower, "x-amz-")) && !slices.Contains(names, lower) {
			return authorization("SignedHeaders must name content-type, and every header that begins with x-amz-, where the request has them")
		}
	}
	return nil
}

// isHeaderName is RFC 9110's token, in lower case.
func isHeaderName(name string) bool {
	for _, c := range []byte(name) {
		if !('a' <= c && c <= 'z' || '0' <= c && c <= '9' || strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0) {
			return false
		}
	}
	return name != ""
}

// head is the canonical request without the hash of the body. The URI is the
// one that arrived: those of operations have no byte that is encoded, and all
// others are not there. It has no query, which the caller has checked.
func head(r *http.Request, names []string) []byte {
	var out strings.Builder
	out.WriteString(r.Method + "\n" + r.RequestURI + "\n\n")
	for _, name := range names {
		out.WriteString(name + ":" + headerValue(r, name) + "\n")
	}
	out.WriteString("\n" + strings.Join(names, ";") + "\n")
	return []byte(out.String())
}

// headerValue joins the values of one header by commas, each without outer
// spaces and with one space for each run of them.
func headerValue(r *http.Request, name string) string {
	switch name {
	case "host":
		return folded(r.Host)
	case "content-length":
		return strconv.FormatInt(r.ContentLength, 10)
	}
	values := slices.Clone(r.Header.Values(name))
	for i := range values {
		values[i] = folded(values[i])
	}
	return strings.Join(values, ",")
}

// folded trims text and makes one space of each run of spaces. Tabs and the
// like stay: signers leave them, too.
func folded(text string) string {
	text = strings.Trim(text, " \t")
	for strings.Contains(text, "  ") {
		text = strings.ReplaceAll(text, "  ", " ")
	}
	return text
}

// authorization is an error about the header of that name.
func authorization(text string) error { return errors.New(headerAuthorization + ": " + text) }

const headerAuthorization = "Authorization"
