package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/strongroom/strongroom/api/wire"
	"github.com/strongroom/strongroom/client"
)

// Version is one version of a secret. The id tells versions apart that bear
// the same number, of a path that was purged and made anew.
type Version struct {
	Number uint64
	ID     string
}

// Source is where values come from: a cache that leaves confirming to us.
type Source struct {
	client *client.Client
	cache  *client.Cache
	wake   chan struct{}

	mu      sync.Mutex
	current map[string]Version // what the cache held when it was last looked at
}

// NewSource makes a Source. It does not connect. Close closes c too.
func NewSource(c *client.Client, cfg client.CacheConfig) (*Source, error) {
	cfg.ConfirmManually = true
	cache, err := client.NewCache(c, cfg)
	if err != nil {
		return nil, err
	}
	return &Source{client: c, cache: cache, wake: make(chan struct{}, 1), current: map[string]Version{}}, nil
}

// Close ends what the Source does in the background.
func (s *Source) Close() {
	s.cache.Close()
	s.client.Close()
}

// Instance is the name under which the ledger of consumers knows us.
func (s *Source) Instance() string { return s.cache.Instance() }

// Changed is sent to when something that was collected may have changed.
func (s *Source) Changed() <-chan struct{} { return s.wake }

// Snapshot is one value for each path. Whoever got it calls Wipe.
type Snapshot map[string]*client.Value

// Wipe overwrites the values.
func (s Snapshot) Wipe() {
	for _, v := range s {
		v.Wipe()
	}
}

// Versions answers which versions the values are.
func (s Snapshot) Versions() map[string]Version {
	out := map[string]Version{}
	for path, v := range s {
		out[path] = Version{v.Version(), v.VersionID()}
	}
	return out
}

// Collect answers the current values of all paths, or an error that names
// every path that could not be had. They belong together: after the last one
// was read, each of the others was still current.
func (s *Source) Collect(ctx context.Context, paths []string) (Snapshot, error) {
	for range 10 {
		snap, err := s.pass(ctx, paths)
		if err != nil {
			return nil, err
		}
		again, err := s.pass(ctx, paths)
		if err != nil {
			snap.Wipe()
			return nil, err
		}
		same := true
		for path, v := range snap {
			same = same && again[path].VersionID() == v.VersionID()
		}
		again.Wipe()
		if same {
			return snap, nil
		}
		snap.Wipe()
	}
	return nil, errors.New("the secrets changed faster than they could be read together; this is tried again")
}

func (s *Source) pass(ctx context.Context, paths []string) (Snapshot, error) {
	out := Snapshot{}
	var failed []error
	for _, path := range paths {
		if out[path] != nil {
			continue
		}
		s.watch(path)
		v, err := s.cache.Get(ctx, path)
		if err != nil {
			failed = append(failed, explain(path, err))
			continue
		}
		out[path] = v
		s.note(v)
	}
	if len(failed) > 0 {
		out.Wipe()
		return nil, errors.Join(failed...)
	}
	return out, nil
}

// watch has us woken by changes. It comes before the first Get of the path.
func (s *Source) watch(path string) {
	s.mu.Lock()
	_, known := s.current[path]
	if !known {
		s.current[path] = Version{}
	}
	s.mu.Unlock()
	if known {
		return
	}
	s.cache.OnChange(path, func(v *client.Value) error {
		s.note(v)
		v.Wipe()
		select {
		case s.wake <- struct{}{}:
		default:
		}
		return nil
	})
}

func (s *Source) note(v *client.Value) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.current[v.Path()] = Version{v.Version(), v.VersionID()}
}

// currentOf answers which version is current, as far as we know.
func (s *Source) currentOf(path string) (Version, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	v, known := s.current[path]
	return v, known && v.Number != 0
}

// below lists the paths of the secrets below a prefix that have a value.
func (s *Source) below(ctx context.Context, prefix string) ([]string, error) {
	var out []string
	req := wire.ListSecretsRequest{Prefix: prefix, Recursive: true}
	for {
		page, err := s.client.Secrets().ListSecrets(ctx, req)
		if err != nil {
			return nil, explainAction(prefix, "secrets:listSecrets", "secrets-read-access", err)
		}
		for _, one := range page.Secrets {
			if one.State == "active" && one.CurrentVersion != 0 {
				out = append(out, one.Path)
			}
		}
		if req.Cursor = page.NextCursor; req.Cursor == "" {
			slices.Sort(out)
			return out, nil
		}
	}
}

// Refused says that the cluster has spoken: this value may not be had. Other
// errors of a Source pass.
type Refused struct{ text string }

// Error names the path and the right that is missing.
func (r *Refused) Error() string { return r.text }

// IsRefused reports whether one of the causes of err is a Refused.
func IsRefused(err error) bool {
	var r *Refused
	return errors.As(err, &r)
}

func explain(path string, err error) error {
	return explainAction(path, "secrets:getSecretValue", "secrets-value-access", err)
}

// explainAction puts an answer into words that name the path. No message of
// the API holds a value.
func explainAction(path, action, role string, err error) error {
	var e *client.Error
	var unreachable *client.UnreachableError
	switch {
	case errors.As(err, &unreachable):
		// Not wrapped: whoever prints it must not leave out the path.
		return fmt.Errorf("%s: no node could be reached; the last one tried: %v; check the addresses, and whether nodes run there", path, unreachable)
	case !errors.As(err, &e):
		return fmt.Errorf("%s: %w", path, err)
	}
	about := "request id " + e.RequestID
	if decision, ok := e.Details["decisionId"].(string); ok {
		about = "decision id " + decision + ", " + about
	}
	switch {
	case client.IsCode(err, client.CodeAccessDenied):
		return &Refused{fmt.Sprintf("%s: AccessDenied: the right that is missing is %s on this path; a policy with the role %s gives it (%s)", path, action, role, about)}
	case client.IsCode(err, client.CodeNotFound):
		return &Refused{fmt.Sprintf("%s: NotFound: there is no such secret, or it has no version; correct the path, or put a value (%s)", path, about)}
	case client.IsCode(err, client.CodeUnauthenticated):
		return &Refused{fmt.Sprintf("%s: Unauthenticated: the token, or the access key, is unknown, expired or revoked; put a valid one into its file (%s)", path, about)}
	case client.IsCode(err, client.CodeVersionNotActive), client.IsCode(err, client.CodeKeyNotActive):
		return &Refused{fmt.Sprintf("%s: %s (%s)", path, e.Error(), about)}
	}
	return fmt.Errorf("%s: %s (%s)", path, e.Error(), about)
}
