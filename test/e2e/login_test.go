package e2e_test

import (
	"bufio"
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/test/issuer"
)

func jsonText(t *testing.T, text string) string {
	t.Helper()
	out, err := json.Marshal(text)
	require.NoError(t, err)
	return string(out)
}

// A person logs in at a real identity provider, from the command line, through
// a node that does not lead: the browser confirms, the token is in its file,
// and ends with the trust.
func TestAPersonLogsInByDevice(t *testing.T) {
	c := suite.Shared(t)
	idp := issuer.Start(t)
	c.Principal("anna", `[{"effect":"allow","actions":["iam:listPolicies"]}]`)
	c.OK(1, "iam/putTrust", `{"name":"staff","kind":"oidc","issuer":%q,"caPem":%s,"audiences":[%q],"clientId":%q,"scopes":["openid","email"],"claims":{"sub":%q},"principal":"anna"}`,
		idp.URL, jsonText(t, idp.CAPEM), issuer.ClientID, issuer.ClientID, issuer.Person)
	file := filepath.Join(t.TempDir(), "token")
	node := c.Addr(c.Others(c.Leader())[0])
	cmd := c.Command("login", "--trust", "staff", "--addr", node, "--token-file", file)
	var out bytes.Buffer
	cmd.Stdout = &out
	said, err := cmd.StderrPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	var shown strings.Builder
	lines := bufio.NewScanner(said)
	for lines.Scan() {
		shown.WriteString(lines.Text() + "\n")
		if m := regexp.MustCompile(`confirm the code (\S+)`).FindStringSubmatch(lines.Text()); m != nil {
			idp.Confirm(m[1])
		}
	}
	require.NoError(t, cmd.Wait(), shown.String())
	require.Contains(t, shown.String(), "Open "+idp.URL+"/device?user_code=")

	info, err := os.Stat(file)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
	token, err := os.ReadFile(file)
	require.NoError(t, err)
	require.NotContains(t, out.String()+shown.String(), strings.TrimSpace(string(token)))
	require.Contains(t, out.String(), "logged in: token ")
	r := c.CLI("", "whoami", "--addr", node, "--token-file", file)
	require.Zero(t, r.Code, r.Err)
	require.Contains(t, r.Out, "anna")

	// Again, by the JWT itself on standard input, over the old file.
	r = c.CLI(idp.IDToken()+"\n", "login", "--trust", "staff", "--jwt-file", "-", "--addr", node, "--token-file", file)
	require.Zero(t, r.Code, r.Err)
	again, err := os.ReadFile(file)
	require.NoError(t, err)
	require.NotEqual(t, token, again)

	c.OK(1, "iam/deleteTrust", `{"name":"staff"}`)
	for n := 1; n <= 3; n++ {
		require.Equal(t, http.StatusUnauthorized, c.Send(n, strings.TrimSpace(string(again)), "iam/whoAmI", `{}`).Status)
	}
	r = c.CLI(idp.IDToken(), "login", "--trust", "staff", "--jwt-file", "-", "--addr", node, "--token-file", file)
	require.NotZero(t, r.Code)
	require.Contains(t, r.Err, "nobody is let in")
	kept, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Equal(t, again, kept, "a login that fails takes no token away")
	r = c.CLI("", "login", "--trust", "staff", "--addr", node, "--token-file", file)
	require.NotZero(t, r.Code)
	require.Contains(t, r.Err, "there is no trust staff")
}

// A machine shows its certificate to a node that does not lead, and needs no
// token at all.
func TestAMachineNeedsOnlyItsCertificate(t *testing.T) {
	c := suite.Shared(t)
	dir := t.TempDir()
	authority := machineCertificate(t, dir)
	c.Principal("robot", `[{"effect":"allow","actions":["iam:listPolicies"]}]`)
	c.OK(1, "iam/putTrust", `{"name":"machines","kind":"certificate","caPem":%s,"sans":["dns:*.machines.example"],"principal":"robot"}`, jsonText(t, authority))
	args := []string{"whoami", "--addr", c.Addr(c.Others(c.Leader())[0]), "--token-file", "", "--client-cert", filepath.Join(dir, "cert.pem"), "--client-key", filepath.Join(dir, "key.pem")}
	r := c.CLI("", args...)
	require.Zero(t, r.Code, r.Err)
	require.Contains(t, r.Out, "robot")
	require.Contains(t, r.Out, "cert:")
	c.OK(1, "iam/putTrust", `{"name":"machines","kind":"certificate","caPem":%s,"sans":["dns:*.machines.example"],"principal":"robot","revokedSerials":["07"]}`, jsonText(t, authority))
	r = c.CLI("", args...)
	require.NotZero(t, r.Code)
	require.Contains(t, r.Err, "client certificate is not valid here")
	c.OK(1, "iam/deleteTrust", `{"name":"machines"}`)
}

// machineCertificate writes cert.pem and key.pem of a client, and answers the
// authority.
func machineCertificate(t *testing.T, dir string) string {
	t.Helper()
	issue := func(serial int64, name string, parent *x509.Certificate, signer *ecdsa.PrivateKey) ([]byte, *ecdsa.PrivateKey) {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		require.NoError(t, err)
		template := &x509.Certificate{
			SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		}
		if parent == nil {
			template.IsCA, template.BasicConstraintsValid, template.KeyUsage = true, true, x509.KeyUsageCertSign
			parent, signer = template, key
		} else {
			template.DNSNames, template.ExtKeyUsage = []string{name}, []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
		}
		der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
		require.NoError(t, err)
		return der, key
	}
	root, rootKey := issue(1, "machines", nil, nil)
	parent, err := x509.ParseCertificate(root)
	require.NoError(t, err)
	leaf, key := issue(7, "a1.machines.example", parent, rootKey)
	raw, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	write := func(name, kind string, der []byte) {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600))
	}
	write("cert.pem", "CERTIFICATE", leaf)
	write("key.pem", "PRIVATE KEY", raw)
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: root}))
}
