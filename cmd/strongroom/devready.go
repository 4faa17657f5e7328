package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/strongroom/strongroom/api/wire"
	"github.com/strongroom/strongroom/client"
	"github.com/strongroom/strongroom/internal/durable"
	"github.com/strongroom/strongroom/internal/fault"
	"github.com/strongroom/strongroom/internal/secret"
	"github.com/strongroom/strongroom/pkcs11"
)

// awaitReady waits for every node, sends a real request through each, and
// then writes env and ready.
func (d *devCluster) awaitReady(ctx context.Context, health *http.Client) error {
	started := time.Now()
	told := started
	for number := 1; number <= d.nodes; number++ {
		for {
			why := d.tryNode(ctx, health, number)
			if why == nil {
				break
			}
			if client.IsCode(why, fault.Unauthenticated) {
				return d.errAdminToken()
			}
			if time.Since(told) > 15*time.Second {
				told = time.Now()
				fmt.Fprintf(d.out, "Still waiting for %s: %v\n", nodeName(number), why)
			}
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(50 * time.Millisecond):
			}
		}
	}
	d.awaitHints(ctx)
	if err := errors.Join(durable.Replace(d.path("env"), []byte(d.env())), durable.Replace(d.path("ready"), []byte(time.Now().UTC().Format(time.RFC3339)+"\n"))); err != nil {
		return err
	}
	d.tellReady(time.Since(started))
	return nil
}

// awaitHints waits a moment until the nodes have heard of each other: they
// serve without that, but cluster status would look ill.
func (d *devCluster) awaitHints(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	c, err := d.nodeClient(1)
	if err != nil {
		return
	}
	defer c.Close()
	for ctx.Err() == nil {
		var status wire.StatusResponse
		err := c.Do(ctx, "cluster", "status", &wire.EmptyRequest{}, &status)
		if err == nil && !slices.ContainsFunc(status.Nodes, func(n wire.NodeStatus) bool { return !n.Alive || n.HSM != pkcs11.HealthOK }) {
			return
		}
		select {
		case <-ctx.Done():
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// nodeClient speaks to one node as the administrator, and asks once.
func (d *devCluster) nodeClient(number int) (*client.Client, error) {
	return client.New(client.Config{
		Addresses: []string{d.url(number)}, CAFile: d.path("ca.pem"), RetryFor: 1,
		Token: func() (secret.Bytes, error) { return readToken(d.path("admin.token")) },
	})
}

// tellReady says where the cluster is and what to do first.
func (d *devCluster) tellReady(took time.Duration) {
	var addresses []string
	for number := 1; number <= d.nodes; number++ {
		addresses = append(addresses, nodeName(number)+" "+d.url(number))
	}
	fmt.Fprintf(d.out, `
Ready (%.1f s): %s

In another terminal:
  source %s
  export PATH=%s:$PATH
  strongroom cluster status
  strongroom secret generate /app/dev/web/db-password --kind password --create
  strongroom secret get /app/dev/web/db-password

Logs: %s
Ctrl-C stops all nodes; the data stays.
`, took.Seconds(), strings.Join(addresses, "  "), shellQuote(d.path("env")), shellQuote(dirOf(d.binary)), d.path("node*", "log"))
}

// tryNode answers nil when a node is ready and serves the administrator.
func (d *devCluster) tryNode(ctx context.Context, health *http.Client, number int) error {
	if _, err := d.get(ctx, health, number, "health/ready"); err != nil {
		return err
	}
	c, err := d.nodeClient(number)
	if err != nil {
		return err
	}
	defer c.Close()
	var who wire.WhoAmIResponse
	if err := c.Do(ctx, "iam", "whoAmI", &wire.EmptyRequest{}, &who); err != nil {
		return err
	}
	return d.renewAdmin(ctx, c, who)
}

// renewAdmin replaces an administrator's token that is near its end.
func (d *devCluster) renewAdmin(ctx context.Context, c *client.Client, who wire.WhoAmIResponse) error {
	if who.ExpiresAt == nil || time.Until(who.ExpiresAt.Time) > devRenewBefore {
		return nil
	}
	ttl := wire.Duration(devAdminTTL)
	req := &wire.CreateTokenRequest{Principal: who.Principal, TTL: &ttl, Description: "administrator of the local cluster, renewed by strongroom dev"}
	var made wire.CreateTokenResponse
	if err := c.Do(ctx, "iam", "createToken", req, &made); err != nil {
		return fmt.Errorf("the administrator's token, which ends %v, could not be renewed: %w", who.ExpiresAt, err)
	}
	defer made.Token.Wipe()
	if err := durable.Replace(d.path("admin.token"), append(bytes.Clone(made.Token.Expose()), '\n')); err != nil {
		return err
	}
	fmt.Fprintf(d.out, "The administrator's token was renewed until %v.\n", made.ExpiresAt)
	return nil
}

// errAdminToken is what only a person can mend.
func (d *devCluster) errAdminToken() error {
	return fmt.Errorf("the token in %s is not valid any more (expired or revoked); put a valid token of an administrator into it, or begin anew in another --dir", d.path("admin.token"))
}

func (d *devCluster) url(number int) string { return "https://" + d.apiAddress(number) }

func (d *devCluster) get(ctx context.Context, health *http.Client, number int, what string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, d.url(number)+"/api/v1/"+what, nil)
	if err != nil {
		return "", err
	}
	return ask(health, req)
}

// ask answers the body of a 200, and makes an error of everything else.
func ask(health *http.Client, req *http.Request) (string, error) {
	resp, err := health.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if err != nil {
		return "", err
	}
	if resp.StatusCode == http.StatusOK {
		return string(body), nil
	}
	var failed struct {
		Error struct{ Code, Message string }
	}
	if json.Unmarshal(body, &failed) == nil && failed.Error.Code != "" {
		return "", fmt.Errorf("%s: %s", failed.Error.Code, failed.Error.Message)
	}
	return "", fmt.Errorf("%s: %s", resp.Status, strings.TrimSpace(string(body)))
}

// healthClient trusts this cluster's authority and no other.
func (d *devCluster) healthClient() (*http.Client, error) {
	pem, err := os.ReadFile(d.path("ca.pem"))
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s holds no certificate", d.path("ca.pem"))
	}
	return &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}, Proxy: nil,
	}}, nil
}

// devRenewBefore is how long before its end the administrator's token is
// renewed.
const devRenewBefore = 90 * 24 * time.Hour

// env is for the shell's source. STRONGROOM_ADDR is one address, so that it
// also serves curl; the command line goes on to the others when that node is
// down.
func (d *devCluster) env() string {
	var others []string
	for number := 2; number <= d.nodes; number++ {
		others = append(others, d.url(number))
	}
	return fmt.Sprintf("export %s=%s\nexport %s=%s\nexport %s=%s\nexport %s=%s\n",
		envAddr, d.url(1), envFallback, strings.Join(others, ","),
		envCACert, shellQuote(d.path("ca.pem")), envTokenFile, shellQuote(d.path("admin.token")))
}
