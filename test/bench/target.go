package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"
)

const valueBytes = 1024

// target is the cluster that is measured, by its public API.
type target struct {
	base, token string
	client      *http.Client
	ciphertext  string
}

type benchCase struct {
	name  string
	floor string
	load  load
}

// newTarget reads the env file that the local cluster writes.
func newTarget(path string) (*target, error) {
	env, err := readEnv(path)
	if err != nil {
		return nil, fmt.Errorf("%w (start a cluster with make run, or use make bench)", err)
	}
	ca, err := os.ReadFile(env["STRONGROOM_CACERT"])
	if err != nil {
		return nil, err
	}
	token, err := os.ReadFile(env["STRONGROOM_TOKEN_FILE"])
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(ca)
	base, _, _ := strings.Cut(env["STRONGROOM_ADDR"], ",")
	t := &target{
		base: base, token: strings.TrimSpace(string(token)),
		client: &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{
			TLSClientConfig: &tls.Config{RootCAs: pool}, MaxIdleConnsPerHost: 256, DisableCompression: true,
		}},
	}
	return t, t.toLeader()
}

func readEnv(path string) (map[string]string, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	out := map[string]string{}
	for lines := bufio.NewScanner(f); lines.Scan(); {
		name, value, ok := strings.Cut(strings.TrimPrefix(lines.Text(), "export "), "=")
		if ok {
			out[name] = strings.Trim(value, `"'`)
		}
	}
	return out, nil
}

// toLeader sends requests straight to the leader: forwarding is not what is
// measured here.
func (t *target) toLeader() error {
	var status struct {
		Leader struct{ APIAddress string }
	}
	if err := t.call(context.Background(), "cluster/status", "{}", &status); err != nil {
		return err
	}
	if a := status.Leader.APIAddress; a != "" {
		t.base = "https://" + strings.TrimPrefix(a, "https://")
	}
	return nil
}

func (t *target) call(ctx context.Context, operation, body string, into any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, t.base+"/api/v1/"+operation, bytes.NewReader([]byte(body)))
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+t.token)
	resp, err := t.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK && !bytes.Contains(answer, []byte("AlreadyExists")) {
		return fmt.Errorf("%s: %s: %s", operation, resp.Status, answer)
	}
	if into == nil {
		return nil
	}
	return json.Unmarshal(answer, into)
}

func secretPath(i int) string { return fmt.Sprintf("/app/bench/service-%d/secret-%d", i%100, i) }

// prepare makes the secrets, 32 at a time; those of an earlier run stay.
func (t *target) prepare(ctx context.Context, n int) error {
	next := make(chan int)
	errs := make(chan error, 32)
	var wg sync.WaitGroup
	for range 32 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for i := range next {
				body := fmt.Sprintf(`{"path":%q,"value":%q}`, secretPath(i), random(valueBytes))
				if err := t.call(ctx, "secrets/createSecret", body, nil); err != nil {
					select {
					case errs <- err:
					default:
					}
				}
			}
		}()
	}
	for i := range n {
		next <- i
	}
	close(next)
	wg.Wait()
	select {
	case err := <-errs:
		return err
	default:
	}
	var sealed struct{ Ciphertext string }
	if err := t.call(ctx, "kms/encrypt", `{"keyId":"alias/default","plaintext":"`+random(32)+`"}`, &sealed); err != nil {
		return err
	}
	t.ciphertext = sealed.Ciphertext
	return nil
}

func (t *target) cases(secrets int) []benchCase {
	return []benchCase{
		{"getSecretValue 1 KiB", "tls", func(ctx context.Context, _ int) error {
			return t.call(ctx, "secrets/getSecretValue", fmt.Sprintf(`{"path":%q}`, secretPath(pick(secrets))), nil)
		}},
		{"putSecretValue 1 KiB", "raft", func(ctx context.Context, _ int) error {
			return t.call(ctx, "secrets/putSecretValue", fmt.Sprintf(`{"path":%q,"value":%q}`, secretPath(pick(secrets)), random(valueBytes)), nil)
		}},
		{"kms encrypt 32 B", "softhsm", func(ctx context.Context, _ int) error {
			return t.call(ctx, "kms/encrypt", `{"keyId":"alias/default","plaintext":"`+random(32)+`"}`, nil)
		}},
		{"kms decrypt 32 B", "softhsm", func(ctx context.Context, _ int) error {
			return t.call(ctx, "kms/decrypt", `{"ciphertext":"`+t.ciphertext+`"}`, nil)
		}},
	}
}

func pick(n int) int {
	i, err := rand.Int(rand.Reader, big.NewInt(int64(n)))
	if err != nil {
		panic(err)
	}
	return int(i.Int64())
}

func random(n int) string {
	raw := make([]byte, n)
	if _, err := rand.Read(raw); err != nil {
		panic(err)
	}
	return base64.StdEncoding.EncodeToString(raw)
}
