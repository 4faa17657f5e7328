package pki

import (
	"crypto/tls"
	"fmt"
	"os"
	"sync"
	"time"
)

// Reloader serves a certificate from two files and reads them again when
// either has changed, so that a renewal needs no restart. It is safe for
// concurrent use.
type Reloader struct {
	certFile, keyFile string

	mu      sync.Mutex
	cert    *tls.Certificate
	stamp   [2]time.Time
	checked time.Time
}

// how often the files are looked at
const reloadInterval = 10 * time.Second

// NewReloader reads the pair once and fails when that does not work.
func NewReloader(certFile, keyFile string) (*Reloader, error) {
	r := &Reloader{certFile: certFile, keyFile: keyFile}
	_, err := r.Certificate()
	return r, err
}

// Certificate answers the pair as it is on disk. If a changed pair cannot be
// used, the one before stays in service: half of a renewal must not take the
// node down.
func (r *Reloader) Certificate() (*tls.Certificate, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.cert != nil && time.Since(r.checked) < reloadInterval {
		return r.cert, nil
	}
	r.checked = time.Now()
	stamp, err := r.stat()
	if err == nil && r.cert != nil && stamp == r.stamp {
		return r.cert, nil
	}
	if err == nil {
		var fresh tls.Certificate
		if fresh, err = tls.LoadX509KeyPair(r.certFile, r.keyFile); err == nil {
			r.cert, r.stamp = &fresh, stamp
		}
	}
	if r.cert == nil {
		return nil, fmt.Errorf("certificate %s with key %s: %w", r.certFile, r.keyFile, err)
	}
	return r.cert, nil
}

func (r *Reloader) stat() ([2]time.Time, error) {
	var out [2]time.Time
	for i, path := range []string{r.certFile, r.keyFile} {
		info, err := os.Stat(path)
		if err != nil {
			return out, err
		}
		out[i] = info.ModTime()
	}
	return out, nil
}
