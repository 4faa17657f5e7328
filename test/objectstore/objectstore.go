// Package objectstore runs an S3-compatible store for tests: a process of its
// own, which checks the signature of each request (server/main.go).
package objectstore

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go"
	"github.com/stretchr/testify/require"
)

// What the store takes.
const (
	KeyID  = "TESTKEYIDOFTHESTORE1"
	Secret = "a-secret-of-the-object-store-which-nothing-may-print"
)

// Server is a running store, with nothing in its buckets.
type Server struct {
	URL string
	t   testing.TB
	cmd *exec.Cmd
}

// Start builds the store and runs it until the test ends.
func Start(t testing.TB, buckets ...string) *Server {
	t.Helper()
	_, here, _, ok := runtime.Caller(0)
	require.True(t, ok)
	binary := filepath.Join(t.TempDir(), "object-store")
	build := exec.Command("go", "build", "-o", binary, ".")
	build.Dir = filepath.Join(filepath.Dir(here), "server")
	out, err := build.CombinedOutput()
	require.NoError(t, err, "%s", out)

	s := &Server{t: t, cmd: exec.Command(binary)}
	s.cmd.Stdin = strings.NewReader(strings.Join(append([]string{KeyID, Secret}, buckets...), "\n"))
	s.cmd.Stderr = os.Stderr
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	told, err := s.cmd.StdoutPipe()
	require.NoError(t, err)
	// The parent-death signal hangs on the thread that starts the child.
	runtime.LockOSThread()
	t.Cleanup(runtime.UnlockOSThread)
	require.NoError(t, s.cmd.Start())
	t.Cleanup(s.Kill)
	address, err := bufio.NewReader(told).ReadString('\n')
	require.NoError(t, err)
	s.URL = "http://" + strings.TrimSpace(address)
	return s
}

// Kill ends the store and everything in it.
func (s *Server) Kill() {
	_ = s.cmd.Process.Kill() // it may have ended
	_ = s.cmd.Wait()
}

// Credentials writes a file of credentials with this secret.
func Credentials(t testing.TB, secret string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "credentials")
	require.NoError(t, os.WriteFile(path, fmt.Appendf(nil, "[default]\naws_access_key_id = %s\naws_secret_access_key=%s\n", KeyID, secret), 0o600))
	return path
}

// Client is one beside that of the product, to look at what is stored and to
// spoil it.
func (s *Server) Client() *s3.Client {
	return s3.New(s3.Options{
		Region: "us-east-1", BaseEndpoint: aws.String(s.URL), UsePathStyle: true,
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: KeyID, SecretAccessKey: Secret}, nil
		}),
	})
}

// Object answers what is stored at s3://bucket/key.
func (s *Server) Object(location string) []byte {
	s.t.Helper()
	bucket, key := split(location)
	got, err := s.Client().GetObject(s.t.Context(), &s3.GetObjectInput{Bucket: &bucket, Key: &key})
	require.NoError(s.t, err)
	defer got.Body.Close()
	raw, err := io.ReadAll(got.Body)
	require.NoError(s.t, err)
	return raw
}

// Put stores something there.
func (s *Server) Put(location string, raw []byte) {
	s.t.Helper()
	bucket, key := split(location)
	_, err := s.Client().PutObject(s.t.Context(), &s3.PutObjectInput{Bucket: &bucket, Key: &key, Body: bytes.NewReader(raw)})
	require.NoError(s.t, err)
}

// Uploads counts the uploads that were begun and neither ended nor taken back.
func (s *Server) Uploads(bucket string) int {
	s.t.Helper()
	got, err := s.Client().ListMultipartUploads(s.t.Context(), &s3.ListMultipartUploadsInput{Bucket: &bucket})
	var none smithy.APIError
	if errors.As(err, &none) && none.ErrorCode() == "NoSuchUpload" { // this store says so, rather than show an empty list
		return 0
	}
	require.NoError(s.t, err)
	return len(got.Uploads)
}

func split(location string) (bucket, key string) {
	bucket, key, _ = strings.Cut(strings.TrimPrefix(location, "s3://"), "/")
	return bucket, key
}
