package api

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"io"
	"net/http"
	"strings"

	"github.com/strongroom/strongroom/api/wire"
	"github.com/strongroom/strongroom/engine"
	"github.com/strongroom/strongroom/internal/console"
	"github.com/strongroom/strongroom/internal/fault"
)

const (
	consoleSession = console.Prefix + "session"
	consoleAPI     = console.Prefix + "api/"

	// sessionCookie holds the token of whoever signed in. "__Host-" has browsers
	// refuse it without Secure, with another path, or for a domain.
	sessionCookie = "__Host-strongroom"
	headerCSRF    = "Strongroom-Csrf"

	// contentPolicy lets the console load what this node serves and nothing
	// else, run no inline script, write no markup from strings, and be framed by
	// nobody.
	contentPolicy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; " +
		"form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"

	maxSignIn = 4 << 10 // of the body of a sign-in
)

// serveConsole is everything below /console/: an exact table, like the rest.
//
// A browser sends cookies by itself, so a cookie is a credential here and
// nowhere else: the API proper reads the Authorization header alone. A request
// that acts must bring a header that only a page of this origin can know, and
// no other origin's page can send without a preflight that nobody answers.
func (s *Server) serveConsole(w http.ResponseWriter, r *http.Request) {
	secureHeaders(w.Header())
	path := r.RequestURI
	if file, ok := s.console[path]; ok {
		s.serveFile(w, r, file)
		return
	}
	if site := r.Header.Get("Sec-Fetch-Site"); site != "" && site != "same-origin" {
		s.fail(w, fault.New(fault.AccessDenied, "requests to the console come from its own pages only"), false)
		return
	}
	switch {
	case path == consoleSession && r.Method == http.MethodPost:
		s.signIn(w, r)
	case path == consoleSession && r.Method == http.MethodGet:
		s.showSession(w, r)
	case path == consoleSession && r.Method == http.MethodDelete:
		if _, err := consoleToken(r, true); err != nil {
			s.fail(w, err, false)
			return
		}
		endSession(w)
		w.WriteHeader(http.StatusNoContent)
	case path == consoleSession:
		w.Header().Set("Allow", "GET, POST, DELETE")
		s.fail(w, fault.Invalid("method", "must be GET, POST or DELETE"), false)
	default:
		o := lookup(path, consoleAPI)
		if o == nil {
			s.fail(w, fault.New(fault.NotFound, "there is nothing at this path of the console"), false)
			return
		}
		if err := method(w, r, http.MethodPost); err != nil {
			s.fail(w, err, false)
			return
		}
		token, err := consoleToken(r, true)
		if err != nil {
			s.fail(w, err, false)
			return
		}
		s.serveOperation(w, withBearer(r, token), o)
	}
}

func secureHeaders(h http.Header) {
	h.Set("Content-Security-Policy", contentPolicy)
	h.Set("X-Frame-Options", "DENY") // for browsers that do not know frame-ancestors
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
}

func (s *Server) serveFile(w http.ResponseWriter, r *http.Request, file console.File) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		s.fail(w, method(w, r, http.MethodGet), false)
		return
	}
	h := w.Header()
	h.Set("Cache-Control", "no-cache") // kept, and asked about each time: a node may be upgraded at any time
	h.Set("ETag", file.ETag)
	if r.Header.Get("If-None-Match") == file.ETag {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	h.Set("Content-Type", file.Type)
	if r.Method == http.MethodGet {
		_, _ = w.Write(file.Body) // a browser that hangs up is no news
	}
}

// signIn takes a token, has whoAmI say whose it is, and leaves it with the
// browser in a cookie that scripts cannot read.
func (s *Server) signIn(w http.ResponseWriter, r *http.Request) {
	raw, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxSignIn))
	defer clear(raw)
	if err != nil {
		s.fail(w, fault.New(fault.TooLarge, "a sign-in has at most %d bytes", maxSignIn), false)
		return
	}
	if r.Header.Get("Content-Type") != "application/json" {
		// What a form of another site could send is refused before it is read.
		s.fail(w, fault.Invalid("Content-Type", "must be application/json"), false)
		return
	}
	var in struct {
		Token string `json:"token"`
	}
	if err := wire.Decode(raw, &in); err != nil {
		s.fail(w, err, false)
		return
	}
	if !plausibleToken(in.Token) {
		s.fail(w, fault.New(fault.Unauthenticated, "token: is not one of Strongroom's"), false)
		return
	}
	s.identify(w, r, in.Token)
}

func (s *Server) showSession(w http.ResponseWriter, r *http.Request) {
	token, err := consoleToken(r, false)
	if err != nil {
		s.fail(w, err, false)
		return
	}
	s.identify(w, r, token)
}

// identify answers whoAmI, with the cookie and the value of the header that
// acts need if the token is good.
func (s *Server) identify(w http.ResponseWriter, r *http.Request, token string) {
	r = withBearer(r, token)
	r.Method, r.Body, r.ContentLength = http.MethodPost, io.NopCloser(bytes.NewReader([]byte("{}"))), 2
	s.serveOperation(&sessionWriter{ResponseWriter: w, token: token}, r, engine.Find("iam", "whoAmI"))
}

// sessionWriter adds a session to an answer that is a success, and ends it with
// one that says that the token is worth nothing.
type sessionWriter struct {
	http.ResponseWriter
	token string
	done  bool
}

// WriteHeader implements http.ResponseWriter.
func (w *sessionWriter) WriteHeader(status int) {
	if !w.done {
		w.done = true
		switch status {
		case http.StatusOK:
			w.Header().Set(headerCSRF, csrfOf(w.token))
			http.SetCookie(w.ResponseWriter, &http.Cookie{
				Name: sessionCookie, Value: w.token, Path: "/", Secure: true, HttpOnly: true, SameSite: http.SameSiteStrictMode,
			})
		case http.StatusUnauthorized:
			endSession(w.ResponseWriter)
		}
	}
	w.ResponseWriter.WriteHeader(status)
}

// Write implements http.ResponseWriter.
func (w *sessionWriter) Write(b []byte) (int, error) {
	if !w.done {
		w.WriteHeader(http.StatusOK)
	}
	return w.ResponseWriter.Write(b)
}

func endSession(w http.ResponseWriter) {
	http.SetCookie(w, &http.Cookie{Name: sessionCookie, Path: "/", MaxAge: -1, Secure: true, HttpOnly: true, SameSite: http.SameSiteStrictMode})
}

// consoleToken answers the token of the session. With acts it also wants the
// header against forged requests.
func consoleToken(r *http.Request, acts bool) (string, error) {
	if r.Header.Get("Authorization") != "" {
		return "", fault.Invalid("Authorization", "is not for the console, which has a session; use %s{service}/{operation}", prefix)
	}
	cookie, err := r.Cookie(sessionCookie)
	if errors.Is(err, http.ErrNoCookie) || err == nil && !plausibleToken(cookie.Value) {
		return "", fault.New(fault.Unauthenticated, "sign in first")
	}
	if err != nil {
		return "", fault.New(fault.Unauthenticated, "the cookie of the session cannot be read; sign in again")
	}
	if acts && !hmac.Equal([]byte(r.Header.Get(headerCSRF)), []byte(csrfOf(cookie.Value))) {
		return "", fault.New(fault.AccessDenied, "%s: is missing or not that of this session; load the console again", headerCSRF)
	}
	return cookie.Value, nil
}

// csrfOf follows from the token, so that every node knows it without keeping
// anything, and tells nothing about it: tokens are random and long.
func csrfOf(token string) string {
	mac := hmac.New(sha256.New, []byte(token))
	mac.Write([]byte("strongroom-console-csrf/1"))
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

// plausibleToken refuses what could not be in a header or a cookie.
func plausibleToken(token string) bool {
	if len(token) < 8 || len(token) > 512 {
		return false
	}
	return strings.Trim(token, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.") == ""
}

// withBearer answers r as one whose credential is token, and nothing else that
// the browser sent.
func withBearer(r *http.Request, token string) *http.Request {
	out := r.Clone(r.Context())
	out.Header.Del("Cookie")
	out.Header.Set("Authorization", "Bearer "+token)
	return out
}
