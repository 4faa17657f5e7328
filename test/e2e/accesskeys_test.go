package e2e_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/test/localcluster"
)

// signedWith is a request that the AWS SDK signs, as a client of our own does
// not: nothing of ours is in what it sends.
func signedWith(t *testing.T, c *localcluster.Cluster, node int, key map[string]any, operation, body string, at time.Time) *http.Request {
	t.Helper()
	r, err := http.NewRequest(http.MethodPost, c.Addr(node)+"/api/v1/"+operation, strings.NewReader(body))
	require.NoError(t, err)
	r.Header.Set("Content-Type", "application/json")
	sum := sha256.Sum256([]byte(body))
	credentials := aws.Credentials{AccessKeyID: key["accessKeyId"].(string), SecretAccessKey: key["secretAccessKey"].(string)}
	require.NoError(t, v4.NewSigner().SignHTTP(context.Background(), credentials, r, hex.EncodeToString(sum[:]), "strongroom", "eu-central-1", at))
	return r
}

// send sends a request to a node, under the name that it was signed for.
func send(t *testing.T, c *localcluster.Cluster, node int, r *http.Request, body string) localcluster.Response {
	t.Helper()
	again := r.Clone(context.Background())
	again.URL.Host, again.Host = strings.TrimPrefix(c.Addr(node), "https://"), r.URL.Host
	again.Body, again.ContentLength = io.NopCloser(strings.NewReader(body)), int64(len(body))
	answer, err := c.Client().Do(again)
	require.NoError(t, err)
	defer answer.Body.Close()
	got, err := io.ReadAll(answer.Body)
	require.NoError(t, err)
	return localcluster.Response{Status: answer.StatusCode, Header: answer.Header, Body: got}
}

func TestRequestsSignedByTheAWSSDK(t *testing.T) {
	c := suite.Shared(t)
	const get, body = "secrets/getSecretValue", `{"path":"/app/e2e/signed/db"}`
	c.OK(1, "secrets/createSecret", `{"path":"/app/e2e/signed/db","value":%q}`, localcluster.B64("hello"))
	c.Principal("signer", `[{"effect":"allow","roles":["secrets-value-access"],"paths":["/app/e2e/signed/**"]}]`)
	key := c.OK(2, "iam/createAccessKey", `{"principal":"signer"}`)
	c.Await("the leader takes signed requests", func() bool {
		return send(t, c, 1, signedWith(t, c, 1, key, "iam/whoAmI", `{}`, time.Now()), `{}`).Status == http.StatusOK
	})
	for node := 1; node <= 3; node++ { // two of them are followers
		r := signedWith(t, c, node, key, get, body, time.Now().Add(time.Duration(node)*time.Second))
		first := send(t, c, node, r, body)
		require.Equal(t, http.StatusOK, first.Status, "node%d: %s", node, first.Body)
		value, err := first.Value()
		require.NoError(t, err)
		require.Equal(t, "hello", value)
		for other := 1; other <= 3; other++ {
			require.Equal(t, "Unauthenticated", send(t, c, other, r, body).Code(), "replayed on node%d", other)
		}
	}
	follower := c.Others(c.Leader())[0]
	fresh := func() *http.Request { return signedWith(t, c, follower, key, get, body, time.Now()) }
	altered := strings.Replace(body, "db", "dc", 1)
	require.Equal(t, "Unauthenticated", send(t, c, follower, fresh(), altered).Code())
	for name, change := range map[string]func(r *http.Request){
		"header": func(r *http.Request) { r.Header.Set("Content-Type", "text/plain") },
		"date": func(r *http.Request) {
			r.Header.Set("X-Amz-Date", time.Now().UTC().Add(2*time.Second).Format("20060102T150405Z"))
		},
		"region": func(r *http.Request) {
			r.Header.Set("Authorization", strings.Replace(r.Header.Get("Authorization"), "eu-central-1", "eu-central-2", 1))
		},
		"path": func(r *http.Request) { r.URL.Path = "/api/v1/secrets/describeSecret" },
	} {
		r := fresh()
		change(r)
		got := send(t, c, follower, r, body)
		require.Equal(t, "Unauthenticated", got.Code(), "%s: %s", name, got.Body)
	}
	late := signedWith(t, c, follower, key, get, body, time.Now().Add(-6*time.Minute))
	require.Equal(t, "Unauthenticated", send(t, c, follower, late, body).Code())
	early := signedWith(t, c, follower, key, get, body, time.Now().Add(time.Minute))
	require.Equal(t, "Unauthenticated", send(t, c, follower, early, body).Code())
	twice := fresh()
	twice.Header.Add("Authorization", "Bearer x")
	require.Equal(t, "InvalidRequest", send(t, c, follower, twice, body).Code())
	unsigned := fresh()
	unsigned.Header.Set("X-Amz-Content-Sha256", "UNSIGNED-PAYLOAD")
	require.Equal(t, "InvalidRequest", send(t, c, follower, unsigned, body).Code())

	c.OK(3, "iam/deleteAccessKey", `{"accessKeyId":%q}`, key["accessKeyId"])
	for node := 1; node <= 3; node++ {
		require.Equal(t, "Unauthenticated", send(t, c, node, signedWith(t, c, node, key, get, body, time.Now()), body).Code())
	}
}

// What a leader served is not served by the next one, which has no memory of
// it; the command line signs again by itself, and its secret is only a file.
func TestSignedRequestsAcrossAChangeOfLeader(t *testing.T) {
	c := suite.Shared(t)
	c.Principal("moving", `[{"effect":"allow","roles":["secrets-value-access"],"paths":["/app/e2e/**"]}]`)
	key := c.OK(1, "iam/createAccessKey", `{"principal":"moving"}`)
	var served *http.Request
	c.Await("the leader takes signed requests", func() bool {
		served = signedWith(t, c, 1, key, "iam/whoAmI", `{}`, time.Now())
		return send(t, c, 1, served, `{}`).Status == http.StatusOK
	})
	next := c.Others(c.Leader())[0]
	c.Lead(next)
	for node := 1; node <= 3; node++ {
		again := send(t, c, node, served, `{}`)
		require.Equal(t, "NoLeader", again.Code(), "node%d: %s", node, again.Body)
		require.Contains(t, again.Message(), "sign it again")
		require.NotEmpty(t, again.Header.Get("Retry-After"))
	}
	file := filepath.Join(t.TempDir(), "secret")
	require.NoError(t, os.WriteFile(file, []byte(key["secretAccessKey"].(string)+"\n"), 0o600))
	run := c.CLI("", "whoami", "-o", "json", "--access-key-id", key["accessKeyId"].(string), "--secret-access-key-file", file)
	require.Zero(t, run.Code, "%s", run.Err)
	require.Contains(t, run.Out, key["accessKeyId"])
	require.Equal(t, "NoLeader", send(t, c, next, served, `{}`).Code(), "still, while it leads")
}

// 64 clients use one token on three nodes. Whatever starts after the
// revocation was acknowledged is refused, wherever it goes.
func TestNothingThatStartsAfterARevocationPasses(t *testing.T) {
	c := suite.Fresh(t, 3) // its failures would slow down those of other tests
	c.Principal("busy", `[{"effect":"allow","roles":["secrets-value-access"],"paths":["/app/e2e/**"]}]`)
	made := c.OK(1, "iam/createToken", `{"principal":"busy"}`)
	token := made["token"].(string)
	var revoked atomic.Bool
	var before, after, wrong atomic.Int64
	var clients sync.WaitGroup
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	for i := range 64 {
		clients.Go(func() {
			for ctx.Err() == nil && after.Load() < 640 {
				late := revoked.Load() // before the request starts
				r, err := c.Do(ctx, 1+i%3, token, "iam/whoAmI", `{}`)
				switch {
				case err != nil:
				case !late && r.Status == http.StatusOK:
					before.Add(1)
				case !late:
				case r.Code() == "Unauthenticated" || r.Code() == "RateLimited": // too many of the former
					after.Add(1)
				case r.Retryable():
				default:
					wrong.Add(1)
					return
				}
			}
		})
	}
	c.Await("clients are at it on all nodes", func() bool { return before.Load() > 640 })
	c.OK(c.Others(c.Leader())[0], "iam/revokeToken", `{"tokenId":%q}`, made["tokenId"])
	revoked.Store(true)
	clients.Wait()
	require.Zero(t, wrong.Load())
	require.GreaterOrEqual(t, after.Load(), int64(640))
	require.False(t, bytes.Contains([]byte(c.Log(1)+c.Log(2)+c.Log(3)), []byte(token)))
}
