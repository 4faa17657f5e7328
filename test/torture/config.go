package torture

import (
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// configuration is the file of a node. Snapshots are made after few entries,
// so that who was away for a while is sent one.
func (l *Lab) configuration(n *node, admitted []string) string {
	var peers, seeds []string
	for number := 1; number <= members; number++ {
		if n.number <= members {
			peers = append(peers, fmt.Sprintf("    - {id: node%d, address: %q}", number, l.node(number).link()))
		} else {
			peers = append(peers, fmt.Sprintf("    - %q", l.node(number).link()))
		}
		if number != n.number {
			seeds = append(seeds, fmt.Sprintf("%q", nodeAddress(number)+":7402"))
		}
	}
	how := "initialMembers"
	if n.number > members {
		how = "join"
	}
	return fmt.Sprintf(`node:
  id: %s
  dataDir: %q
api:
  listen: %q
  certFile: %q
  keyFile: %q
cluster:
  id: %s
  listen: %q
  certFile: %q
  keyFile: %q
  caFile: %q
  %s:
%s
gossip:
  listen: %q
  keyFile: %q
  seeds: [%s]
hsm:
  module: %q
  tokenLabel: strongroom-%s
  pinFile: %q
  env:
    SOFTHSM2_CONF: %q
    FAULTY_REAL: %q
    FAULTY_CONTROL: %q
  syncDir: %q
  admitTransportKeys: [%s]
kms:
  cachedDataKeys: 100
audit:
  dir: %q
  compress: false
  minFreeBytes: 1048576
raft:
  snapshotThreshold: 500
  snapshotInterval: 3s
`, n.name(), filepath.Join(n.disk, "data"),
		nodeAddress(n.number)+":7400", n.file("api.pem"), n.file("api-key.pem"),
		l.cluster, n.link(), n.file("node.pem"), n.file("node-key.pem"), filepath.Join(l.dir, "cluster-ca.pem"), how, strings.Join(peers, "\n"),
		nodeAddress(n.number)+":7402", filepath.Join(l.dir, "gossip.key"), strings.Join(seeds, ", "),
		l.module, n.name(), n.file("hsm-pin"), n.file("softhsm2.conf"), l.softHSM, n.file("faults"), n.file("tokens"), strings.Join(admitted, ", "),
		n.trail())
}

var hexFingerprint = regexp.MustCompile(`[0-9a-f]{64}`)

// fingerprint is that of a transport key, as the command line tells it.
func fingerprint(t testing.TB, text string) string {
	found := hexFingerprint.FindString(text)
	require.NotEmpty(t, found, text)
	return found
}
