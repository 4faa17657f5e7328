package e2e_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/test/localcluster"
)

// object is what pkcs11-tool says about one object of a token.
type object struct{ kind, label, id, usage, access string }

// tokenObjects lists everything in a node's token, logged in with its PIN, by
// a program that is not ours.
func tokenObjects(t *testing.T, c *localcluster.Cluster, node int) (objects []object, complaints string) {
	t.Helper()
	config, err := os.ReadFile(filepath.Join(c.NodeDir(node), "config.yaml"))
	require.NoError(t, err)
	module := regexp.MustCompile(`(?m)^  module: "(.+)"$`).FindSubmatch(config)
	require.NotNil(t, module)
	pin, err := os.ReadFile(filepath.Join(c.NodeDir(node), "hsm-pin"))
	require.NoError(t, err)
	var out []byte
	var errOut strings.Builder
	// A SoftHSM token that its server is just writing to is not whole for
	// another process: it finds none of that name, for a moment.
	c.Await("the token of "+localcluster.Name(node)+" to be read", func() bool {
		errOut.Reset()
		cmd := exec.Command("pkcs11-tool", "--module", string(module[1]), "--token-label", "strongroom-"+localcluster.Name(node),
			"--login", "--pin", "env:PIN", "--list-objects")
		cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "SOFTHSM2_CONF=" + filepath.Join(c.NodeDir(node), "softhsm2.conf"), "PIN=" + strings.TrimSpace(string(pin))}
		cmd.Stderr = &errOut
		out, err = cmd.Output()
		return err == nil
	})
	for line := range strings.Lines(string(out)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		value = strings.TrimSpace(value)
		if !strings.HasPrefix(line, " ") {
			objects = append(objects, object{kind: strings.TrimSpace(line)})
			continue
		}
		last := &objects[len(objects)-1]
		switch name {
		case "label":
			last.label = value
		case "ID":
			last.id = value
		case "Usage":
			last.usage = value
		case "Access":
			last.access = value
		}
	}
	return objects, errOut.String()
}

// Even who has the PIN cannot read the root key or take it along, in any of
// the three tokens; and it is one root key, known by its id.
func TestTheRootKeyCannotLeaveAnyToken(t *testing.T) {
	c := suite.Shared(t)
	ids := map[string]int{}
	for node := 1; node <= 3; node++ {
		objects, complaints := tokenObjects(t, c, node)
		seen := map[string]object{}
		for _, o := range objects {
			seen[strings.Fields(o.kind)[0]+" "+o.label] = o
			if strings.HasPrefix(o.kind, "Public") {
				continue
			}
			access := strings.Split(o.access, ", ")
			require.Contains(t, access, "sensitive", "node%d: %+v", node, o)
			require.NotContains(t, access, "extractable", "node%d: %+v", node, o)
		}
		require.Len(t, objects, 5, "a root key, its MAC key, the pair that received them, and the storage root: %+v", objects)
		storage := seen["Secret strongroom storage"]
		require.Equal(t, "encrypt, decrypt", storage.usage)
		require.Contains(t, storage.access, "never extractable, local")
		root, mac := seen["Secret strongroom root v1"], seen["Secret strongroom root mac v1"]
		require.Equal(t, "wrap, unwrap", root.usage, "it encrypts and decrypts nothing itself")
		require.Equal(t, root.id, mac.id)
		require.NotEmpty(t, root.id)
		ids[root.id]++
		transport := seen["Private strongroom transport"]
		require.Contains(t, transport.access, "never extractable, local", "born in this token")
		require.Equal(t, "unwrap", transport.usage)
		require.Equal(t, 3, strings.Count(complaints, "CKR_ATTRIBUTE_SENSITIVE"), "asked for the bytes of all secret keys, the token said no: %s", complaints)
	}
	require.Len(t, ids, 1, "the same root in all three: %v", ids)
}

// hsm status says what an operator wants to know of a token before it is given
// to a server, and what is wrong with one that no server could use.
func TestHSMStatusSaysWhatTheTokenCanDo(t *testing.T) {
	c := suite.Fresh(t, 1)
	c.Stop()
	config := filepath.Join(c.NodeDir(1), "config.yaml")
	r := c.CLI("", "hsm", "status", "--config", config)
	require.Equal(t, 0, r.Code, r.Err)
	for _, want := range []string{"SoftHSM", "strongroom-node1", "rfc3394", "aes-256", "ec-p384", "rsa-oaep-sha1",
		"caller, 12 bytes (hsm.ivMode: auto)", "once for the process", "needs 4; hsm.maxSessions: not known; the token allows: not known"} {
		require.Contains(t, r.Out, want)
	}
	r = c.CLI("", "hsm", "status", "--config", config, "-o", "json")
	var status struct {
		Specs                   []string
		Lacks                   []string
		TransportKeyFingerprint string
		IVBytes                 int
		Dialect                 struct {
			Vendor, IVMode string
			Sessions       int
		}
	}
	require.NoError(t, json.Unmarshal([]byte(r.Out), &status), r.Out)
	require.Contains(t, status.Specs, "rsa-4096")
	require.Equal(t, 12, status.IVBytes)
	require.Equal(t, "generic", status.Dialect.Vendor)
	require.Equal(t, "auto", status.Dialect.IVMode)
	require.Equal(t, 4, status.Dialect.Sessions)
	require.Regexp(t, "^[0-9a-f]{64}$", status.TransportKeyFingerprint)

	tokens := filepath.Join(c.NodeDir(1), "tokens")
	require.NoError(t, os.Rename(tokens, tokens+".away"))
	require.NoError(t, os.Mkdir(tokens, 0o700))
	r = c.CLI("", "hsm", "status", "--config", config)
	require.Equal(t, 1, r.Code)
	require.Empty(t, r.Out)
	require.Contains(t, r.Err, `no token labelled "strongroom-node1"`)
	require.Equal(t, 2, c.CLI("", "hsm", "status", "--config", config, "-o", "xml").Code)
}

// hsm init takes an HSM from nothing to its transport key, and leaves alone
// what is there.
func TestHSMInitMayBeRunAgain(t *testing.T) {
	c := suite.Fresh(t, 1)
	c.Stop()
	config := filepath.Join(c.NodeDir(1), "config.yaml")
	tokens := filepath.Join(c.NodeDir(1), "tokens")
	require.NoError(t, os.Rename(tokens, tokens+".away"))
	require.NoError(t, os.Mkdir(tokens, 0o700))
	r := c.CLI("", "hsm", "init", "--config", config)
	require.Equal(t, 1, r.Code)
	require.Contains(t, r.Err, `no token labelled "strongroom-node1"`)
	init := func(more ...string) localcluster.Run {
		return c.CLI("", append([]string{"hsm", "init", "--config", config, "--so-pin-file", filepath.Join(c.NodeDir(1), "hsm-so-pin")}, more...)...)
	}
	first := init()
	require.Equal(t, 0, first.Code, first.Err)
	require.Contains(t, first.Out, "BEGIN PUBLIC KEY")
	again := init("--profile", "strict")
	require.Equal(t, 0, again.Code, again.Err)
	require.Equal(t, first.Out, again.Out)
	other := init("--profile", "flexible")
	require.Equal(t, 1, other.Code)
	require.Empty(t, other.Out)
	require.Contains(t, other.Err, "of the profile strict already")
	require.Equal(t, 2, init("--profile", "loose").Code)
}
