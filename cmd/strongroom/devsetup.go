package main

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"text/template"
	"time"

	"github.com/google/uuid"

	"github.com/strongroom/strongroom/internal/config"
	"github.com/strongroom/strongroom/internal/durable"
	"github.com/strongroom/strongroom/internal/pki"
	"github.com/strongroom/strongroom/pkcs11"
)

// The marks of a folder. Everything that setUp makes lies between the two: a
// folder that was begun and is not complete is emptied and made again.
const (
	markBegun    = "setup-begun"
	markComplete = "setup-complete"
)

// devAdminTTL: a local cluster is used for long, by its owner only.
const devAdminTTL = 8760 * time.Hour

// devShape is what setup-complete holds: the shape that configurations and
// certificates were made for.
type devShape struct {
	Format   int `json:"format"`
	Nodes    int `json:"nodes"`
	BasePort int `json:"basePort"`
}

// refuseForeignFolder: we empty folders, so they must be ours.
func (d *devCluster) refuseForeignFolder() error {
	entries, err := os.ReadDir(d.dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.Name() == markBegun || e.Name() == markComplete {
			return nil
		}
	}
	if len(entries) == 0 {
		return writeFile(d.path(markBegun), []byte("strongroom dev makes a cluster here\n"))
	}
	return fmt.Errorf("%s is neither empty nor a local cluster; use another --dir", d.dir)
}

// setUp makes the cluster unless it is there.
func (d *devCluster) setUp(ctx context.Context) error {
	raw, err := os.ReadFile(d.path(markComplete))
	if err == nil {
		return d.checkShape(raw)
	}
	if !errors.Is(err, os.ErrNotExist) {
		return err
	}
	started := time.Now()
	fmt.Fprintf(d.out, "Making a local cluster of %d nodes in %s …\n", d.nodes, d.dir)
	if err := d.empty(); err != nil {
		return err
	}
	if err := d.makeFiles(); err != nil {
		return err
	}
	if err := d.makeTokens(ctx); err != nil {
		return err
	}
	shape, err := json.Marshal(devShape{Format: 1, Nodes: d.nodes, BasePort: d.basePort})
	if err != nil {
		return err
	}
	// The mark appears whole or not at all, and last.
	if err := durable.Replace(d.path(markComplete), append(shape, '\n')); err != nil {
		return err
	}
	fmt.Fprintf(d.out, "Certificates, HSM tokens, keys and the first administrator are made (%.1f s).\n", time.Since(started).Seconds())
	return os.Remove(d.path(markBegun))
}

func (d *devCluster) checkShape(raw []byte) error {
	var s devShape
	if err := json.Unmarshal(raw, &s); err != nil || s.Format != 1 {
		return fmt.Errorf("%s is of another version of strongroom; use another --dir", d.path(markComplete))
	}
	if s.Nodes != d.nodes || s.BasePort != d.basePort {
		return fmt.Errorf("the cluster in %s was made with --nodes %d --base-port %d; use these, or another --dir", d.dir, s.Nodes, s.BasePort)
	}
	if _, err := os.Stat(d.path(markBegun)); err == nil {
		return os.Remove(d.path(markBegun))
	}
	return nil
}

// empty removes the rest of a set-up that did not get to its end.
func (d *devCluster) empty() error {
	entries, err := os.ReadDir(d.dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.Name() == markBegun || e.Name() == "lock" {
			continue
		}
		if err := os.RemoveAll(d.path(e.Name())); err != nil {
			return err
		}
	}
	return nil
}

// makeFiles makes everything but the HSM tokens.
func (d *devCluster) makeFiles() error {
	now := time.Now()
	clusterID := uuid.NewString()
	apiCA, err := pki.CreateCA("Strongroom local cluster, API", now)
	if err != nil {
		return err
	}
	linkCA, err := pki.CreateCA("Strongroom local cluster, node link", now)
	if err != nil {
		return err
	}
	if err := errors.Join(
		apiCA.Write(d.path("ca.pem"), d.path("ca-key.pem")),
		linkCA.Write(d.path("cluster-ca.pem"), d.path("cluster-ca-key.pem")),
	); err != nil {
		return err
	}
	key := make([]byte, 32)
	if _, err := rand.Read(key); err != nil {
		return err
	}
	if err := writeFile(d.path("gossip.key"), []byte(base64.StdEncoding.EncodeToString(key)+"\n")); err != nil {
		return err
	}
	for node := 1; node <= d.nodes; node++ {
		if err := d.makeNode(node, clusterID, apiCA, linkCA, now); err != nil {
			return fmt.Errorf("%s: %w", nodeName(node), err)
		}
	}
	return nil
}

func (d *devCluster) makeNode(node int, clusterID string, apiCA, linkCA pki.Pair, now time.Time) error {
	for _, dir := range []string{"", "tokens", "data"} {
		if err := os.MkdirAll(d.nodePath(node, dir), 0o700); err != nil {
			return err
		}
	}
	api, err := pki.IssueServer(apiCA, []string{"127.0.0.1", "::1", "localhost"}, now)
	if err != nil {
		return err
	}
	link, err := pki.IssueNode(linkCA, clusterID, nodeName(node), now)
	if err != nil {
		return err
	}
	softHSM := fmt.Sprintf("directories.tokendir = %s\nobjectstore.backend = file\nlog.level = ERROR\n", d.nodePath(node, "tokens"))
	text, err := d.nodeConfig(node, clusterID)
	if err != nil {
		return err
	}
	return errors.Join(
		api.Write(d.nodePath(node, "api.pem"), d.nodePath(node, "api-key.pem")),
		link.Write(d.nodePath(node, "node.pem"), d.nodePath(node, "node-key.pem")),
		writeFile(d.nodePath(node, "softhsm2.conf"), []byte(softHSM)),
		writeFile(d.nodePath(node, "hsm-pin"), []byte(rand.Text()+"\n")),
		writeFile(d.nodePath(node, "hsm-so-pin"), []byte(rand.Text()+"\n")),
		writeFile(d.nodePath(node, "config.yaml"), text),
	)
}

const nodeConfigText = `# {{.Name}} of a local cluster, made by strongroom dev. Settings that are not
# here have their defaults; strongroom config defaults shows them all.
node:
  id: {{.Name}}
  dataDir: {{.Data}}
  pidFile: {{.PIDFile}}
api:
  listen: {{.API}}
  certFile: {{.APICert}}
  keyFile: {{.APIKey}}
cluster:
  id: {{.ClusterID}}
  listen: {{.Link}}
  certFile: {{.LinkCert}}
  keyFile: {{.LinkKey}}
  caFile: {{.LinkCA}}
  initialMembers:
{{- range .Members}}
    - {id: {{.ID}}, address: {{.Address}}}
{{- end}}
gossip:
  listen: {{.Gossip}}
  keyFile: {{.GossipKey}}
  seeds:{{if not .Seeds}} []{{end}}
{{- range .Seeds}}
    - {{.}}
{{- end}}
hsm:
  module: {{.Module}}
  tokenLabel: {{.Label}}
  pinFile: {{.PIN}}
  env:
    SOFTHSM2_CONF: {{.SoftHSM}}
  syncDir: {{.Tokens}}
`

// nodeConfig writes a node's configuration. Every value is quoted: JSON
// strings are YAML strings, so no folder name can change the structure.
func (d *devCluster) nodeConfig(node int, clusterID string) ([]byte, error) {
	quote := func(s string) (string, error) {
		raw, err := json.Marshal(s)
		return string(raw), err
	}
	var errs []error
	q := func(s string) string {
		quoted, err := quote(s)
		errs = append(errs, err)
		return quoted
	}
	values := map[string]any{
		"Name": nodeName(node), "Data": q(d.nodePath(node, "data")), "PIDFile": q(d.nodePath(node, "pid")), "ClusterID": q(clusterID),
		"API": q(d.apiAddress(node)), "APICert": q(d.nodePath(node, "api.pem")), "APIKey": q(d.nodePath(node, "api-key.pem")),
		"Link": q(d.linkAddress(node)), "LinkCert": q(d.nodePath(node, "node.pem")), "LinkKey": q(d.nodePath(node, "node-key.pem")),
		"LinkCA": q(d.path("cluster-ca.pem")), "Gossip": q(d.gossipAddress(node)), "GossipKey": q(d.path("gossip.key")),
		"Module": q(d.module), "Label": q("strongroom-" + nodeName(node)), "PIN": q(d.nodePath(node, "hsm-pin")),
		"SoftHSM": q(d.nodePath(node, "softhsm2.conf")), "Tokens": q(d.nodePath(node, "tokens")),
	}
	var members []config.Member
	var seeds []string
	for other := 1; other <= d.nodes; other++ {
		members = append(members, config.Member{ID: nodeName(other), Address: q(d.linkAddress(other))})
		if other != node {
			seeds = append(seeds, q(d.gossipAddress(other)))
		}
	}
	values["Members"], values["Seeds"] = members, seeds
	parsed, err := template.New("config").Parse(nodeConfigText)
	if err != nil {
		return nil, err
	}
	var b strings.Builder
	errs = append(errs, parsed.Execute(&b, values))
	return []byte(b.String()), errors.Join(errs...)
}

// makeTokens prepares each node's HSM and runs init on the first node: the
// same steps, in the same order, as with real HSMs.
func (d *devCluster) makeTokens(ctx context.Context) error {
	makeKey, err := transportKeyMaker(d.profile)
	if err != nil {
		return err
	}
	options := initOptions{tokenFile: d.path("admin.token"), ttl: devAdminTTL}
	for node := 1; node <= d.nodes; node++ {
		cfg, err := config.Load(d.nodePath(node, "config.yaml"))
		if err != nil {
			return err
		}
		if err := pkcs11.InitToken(ctx, hsmConfig(cfg, slog.New(slog.DiscardHandler), nil), d.nodePath(node, "hsm-so-pin")); err != nil {
			return fmt.Errorf("%s: HSM token: %w", nodeName(node), err)
		}
		var key pkcs11.TransportKey
		err = withDevice(ctx, cfg, func(device *pkcs11.Device) error {
			key, err = makeKey(device, ctx)
			return err
		})
		if err != nil {
			return fmt.Errorf("%s: transport key: %w", nodeName(node), err)
		}
		file := d.nodePath(node, "transport-key.pem")
		if err := writeFile(file, formatTransportKey(nodeName(node), key)); err != nil {
			return err
		}
		options.transportKeys = append(options.transportKeys, nodeName(node)+"="+file)
	}
	cfg, err := config.Load(d.nodePath(1, "config.yaml"))
	if err != nil {
		return err
	}
	return initCluster(ctx, cfg, options, io.Discard)
}

// writeFile writes a whole file of mode 0600 or leaves none.
func writeFile(path string, content []byte) error {
	if err := os.WriteFile(path, content, 0o600); err != nil {
		return errors.Join(err, os.Remove(path))
	}
	return nil
}
