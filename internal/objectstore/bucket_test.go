package objectstore

import (
	"bytes"
	"encoding/pem"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/test/objectstore"
)

const (
	bucketName = "backups"
	cluster    = "0d5e4f9c-2c63-4b1e-9a07-5f1c8f0f2a11"
	smallPart  = 5 << 20 // the least that the protocol allows
)

var savedAt = time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)

func configured(t *testing.T, endpoint string) Config {
	return Config{
		Endpoint: endpoint, Region: "us-east-1", Bucket: bucketName, Prefix: "prod/vault", PathStyle: true,
		Credentials: "file", CredentialsFile: objectstore.Credentials(t, objectstore.Secret), ClusterID: cluster, Node: "node1",
	}
}

func opened(t *testing.T, cfg Config) *Bucket {
	t.Helper()
	b, err := New(cfg)
	require.NoError(t, err)
	b.part = smallPart
	return b
}

func content(n int) []byte { return bytes.Repeat([]byte("0123456789abcdef"), n/16+1)[:n] }

func writing(raw []byte) func(io.Writer) error {
	return func(w io.Writer) error {
		_, err := io.Copy(w, struct{ io.Reader }{bytes.NewReader(raw)}) // as many small writes
		return err
	}
}

func TestWhatIsSavedComesBack(t *testing.T) {
	s := objectstore.Start(t, bucketName)
	b := opened(t, configured(t, s.URL))
	all, err := b.List(t.Context())
	require.NoError(t, err)
	require.Empty(t, all)
	sizes := []int{1, smallPart, smallPart + 1, 3*smallPart + 5}
	for i, size := range sizes {
		saved, err := b.Save(t.Context(), savedAt.Add(time.Duration(i)*time.Hour), uint64(9+i), writing(content(size)))
		require.NoError(t, err)
		require.EqualValues(t, size, saved.Size)
		require.Equal(t, content(size), s.Object(saved.Path))
		all, err := b.List(t.Context())
		require.NoError(t, err)
		require.Len(t, all, i+1)
		require.Equal(t, saved, all[0], "the newest is first, and Save answers it as List does")
		in, err := b.Open(t.Context(), saved.Path)
		require.NoError(t, err)
		raw, err := io.ReadAll(in)
		require.NoError(t, errors.Join(err, in.Close()))
		require.Equal(t, content(size), raw)
	}
	require.Zero(t, s.Uploads(bucketName))
	all, err = b.List(t.Context())
	require.NoError(t, err)
	require.Equal(t, "s3://backups/prod/vault/"+cluster+"/node1/strongroom-20260304T050607Z-i9.age", all[3].Path)

	_, err = b.Save(t.Context(), savedAt, 9, writing([]byte("another")))
	require.ErrorContains(t, err, "is there already, and is not replaced")
	require.Equal(t, content(1), s.Object(all[3].Path))
	require.NoError(t, b.Remove(t.Context(), all[3].Path))
	all, err = b.List(t.Context())
	require.NoError(t, err)
	require.Len(t, all, 3)
	_, err = b.Open(t.Context(), "s3://another/"+cluster+"/x.age")
	require.ErrorContains(t, err, "is in another bucket")
}

// Clusters and nodes share a bucket and a prefix, and none sees what another
// one could remove as too old.
func TestNobodySeesTheBackupsOfAnother(t *testing.T) {
	s := objectstore.Start(t, bucketName)
	ours := configured(t, s.URL)
	node2, longer, theirs := ours, ours, ours
	node2.Node, longer.Node, theirs.ClusterID = "node2", "node11", "9999999c-2c63-4b1e-9a07-5f1c8f0f2a11"
	for _, cfg := range []Config{ours, node2, longer, theirs} {
		_, err := opened(t, cfg).Save(t.Context(), savedAt, 9, writing([]byte(cfg.Node)))
		require.NoError(t, err)
	}
	s.Put("s3://backups/prod/vault/"+cluster+"/node1/notes.txt", []byte("of a person"))
	for _, cfg := range []Config{ours, node2, longer, theirs} {
		all, err := opened(t, cfg).List(t.Context())
		require.NoError(t, err)
		require.Len(t, all, 1)
		require.Contains(t, all[0].Path, "/"+cfg.ClusterID+"/"+cfg.Node+"/strongroom-")
	}
	all, err := opened(t, ours).ListCluster(t.Context())
	require.NoError(t, err)
	require.Len(t, all, 3)
}

// The store is not one that takes everything: the control of what is said of
// credentials here.
func TestWhatAnOperatorGetsWrongIsSaid(t *testing.T) {
	s := objectstore.Start(t, bucketName)
	wrong := configured(t, s.URL)
	const guessed = "another-secret-that-nothing-may-print"
	wrong.CredentialsFile = objectstore.Credentials(t, guessed)
	missing := configured(t, s.URL)
	missing.Bucket = "no-such-bucket"
	away := configured(t, "http://127.0.0.1:1")
	none := configured(t, s.URL)
	none.CredentialsFile = filepath.Join(t.TempDir(), "none")
	for _, c := range []struct {
		cfg  Config
		says string
	}{
		{wrong, "the store does not take the credentials (snapshots.s3Credentials)"}, {missing, "make the bucket no-such-bucket"},
		{away, "connection refused"}, {none, "snapshots.s3CredentialsFile"},
	} {
		b := opened(t, c.cfg)
		_, saveErr := b.Save(t.Context(), savedAt, 9, writing([]byte("x")))
		_, listErr := b.List(t.Context())
		_, openErr := b.Open(t.Context(), b.url(b.folder()+"strongroom-20260304T050607Z-i9.age"))
		for _, err := range []error{saveErr, listErr, openErr} {
			require.ErrorContains(t, err, c.says)
			require.NotContains(t, err.Error(), guessed)
			require.NotContains(t, err.Error(), objectstore.Secret)
		}
	}
	_, err := opened(t, configured(t, s.URL)).List(t.Context())
	require.NoError(t, err)
}

// between is a way to the store that can be broken.
func between(t *testing.T, s *objectstore.Server, breaks func(w http.ResponseWriter, r *http.Request) bool) *httptest.Server {
	t.Helper()
	to, err := url.Parse(s.URL)
	require.NoError(t, err)
	proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(to)
		r.Out.Host = r.In.Host // which is signed
	}}
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !breaks(w, r) {
			proxy.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(front.Close)
	return front
}

// A store that dies under an upload shows no backup, and what is left of the
// upload goes with the next one.
func TestAnUploadThatBreaksOffLeavesNoBackup(t *testing.T) {
	s := objectstore.Start(t, bucketName)
	var dead atomic.Bool
	front := between(t, s, func(_ http.ResponseWriter, r *http.Request) bool {
		if r.URL.Query().Get("partNumber") == "2" {
			dead.Store(true)
		}
		if dead.Load() {
			panic(http.ErrAbortHandler) // the connection ends without an answer
		}
		return false
	})
	b := opened(t, configured(t, front.URL))
	_, err := b.Save(t.Context(), savedAt, 9, writing(content(3*smallPart)))
	require.ErrorContains(t, err, "upload a part")
	require.Equal(t, 1, s.Uploads(bucketName), "the control: something was begun")
	all, err := opened(t, configured(t, s.URL)).List(t.Context())
	require.NoError(t, err)
	require.Empty(t, all)

	back := opened(t, configured(t, s.URL))
	saved, err := back.Save(t.Context(), savedAt, 9, writing(content(3*smallPart)))
	require.NoError(t, err)
	require.Equal(t, content(3*smallPart), s.Object(saved.Path))
	require.Zero(t, s.Uploads(bucketName))
}

// A state that cannot be written makes no backup, also when parts of it were
// sent already.
func TestAStateThatCannotBeWrittenMakesNoBackup(t *testing.T) {
	s := objectstore.Start(t, bucketName)
	b := opened(t, configured(t, s.URL))
	for _, size := range []int{10, 2*smallPart + 1} {
		_, err := b.Save(t.Context(), savedAt, 9, func(w io.Writer) error {
			_, err := w.Write(content(size))
			return errors.Join(err, errors.New("the HSM is away"))
		})
		require.EqualError(t, err, "the HSM is away")
		require.Zero(t, s.Uploads(bucketName))
		all, err := b.List(t.Context())
		require.NoError(t, err)
		require.Empty(t, all)
	}
}

// A store that takes or gives no byte more is left, however much there was.
func TestAStoreThatStallsIsLeft(t *testing.T) {
	s := objectstore.Start(t, bucketName)
	saved, err := opened(t, configured(t, s.URL)).Save(t.Context(), savedAt, 9, writing(content(smallPart)))
	require.NoError(t, err)
	front := between(t, s, func(w http.ResponseWriter, r *http.Request) bool {
		switch {
		case r.Method == http.MethodGet && strings.HasSuffix(r.URL.Path, ".age"):
			_, err := w.Write(content(10))
			if err == nil {
				err = http.NewResponseController(w).Flush()
			}
			if err != nil {
				panic(err)
			}
		case r.Method != http.MethodPut:
			return false
		}
		// A server notices that its client has gone once it has the whole request.
		_, _ = io.Copy(io.Discard, r.Body)
		<-r.Context().Done()
		return true
	})
	b := opened(t, configured(t, front.URL))
	b.stall = 500 * time.Millisecond
	in, err := b.Open(t.Context(), saved.Path)
	require.NoError(t, err)
	_, err = io.ReadAll(in)
	require.ErrorIs(t, err, errStalled)
	require.NoError(t, in.Close())
	_, err = b.Save(t.Context(), savedAt.Add(time.Hour), 10, writing(content(10)))
	require.ErrorIs(t, err, errStalled)
}

// A signed request goes to the endpoint and nowhere else.
func TestNoRedirectIsFollowed(t *testing.T) {
	var reached atomic.Bool
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached.Store(true) }))
	defer elsewhere.Close()
	front := httptest.NewServer(http.RedirectHandler(elsewhere.URL, http.StatusTemporaryRedirect))
	defer front.Close()
	_, err := opened(t, configured(t, front.URL)).List(t.Context())
	require.Error(t, err)
	require.False(t, reached.Load())
}

// Only an authority that the configuration names is believed.
func TestTheStoreIsProvenByItsCertificate(t *testing.T) {
	s := objectstore.Start(t, bucketName)
	to, err := url.Parse(s.URL)
	require.NoError(t, err)
	front := httptest.NewTLSServer(&httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(to)
		r.Out.Host = r.In.Host
	}})
	defer front.Close()
	cfg := configured(t, front.URL)
	_, err = opened(t, cfg).List(t.Context())
	require.ErrorContains(t, err, "certificate")
	cfg.CAFile = filepath.Join(t.TempDir(), "ca.pem")
	require.NoError(t, os.WriteFile(cfg.CAFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: front.Certificate().Raw}), 0o600))
	b := opened(t, cfg)
	saved, err := b.Save(t.Context(), savedAt, 9, writing(content(2*smallPart)))
	require.NoError(t, err)
	require.Equal(t, content(2*smallPart), s.Object(saved.Path))
	require.NoError(t, os.WriteFile(cfg.CAFile, []byte("no certificate"), 0o600))
	_, err = New(cfg)
	require.ErrorContains(t, err, "snapshots.s3CAFile")
}

func TestAPlaceIsReadInOneWay(t *testing.T) {
	bucket, key, err := Split("s3://b/a/c.age")
	require.NoError(t, err)
	require.Equal(t, []string{"b", "a/c.age"}, []string{bucket, key})
	for _, text := range []string{"", "b/a", "s3://", "s3://b", "s3://b/", "s3:///a", "s3://b/a/", "S3://b/a", "s3://b/a\n"} {
		_, _, err := Split(text)
		require.Error(t, err, "%q", text)
	}
	require.True(t, Is("s3://b/a"))
	require.False(t, Is("/var/backups/s3:/a"))
}
