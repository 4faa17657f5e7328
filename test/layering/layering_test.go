// Package layering holds the floors of the architecture against the source. It
// reads imports with go/parser: a test that shells out to go list would stay
// cached green after a bad import.
package layering_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const module = "github.com/strongroom/strongroom/"

// root of the checkout, from this folder.
const root = "../.."

// mayImport lists for each package of the product what it may import of it.
// A package that is not a key has no floor, and fails.
var mayImport = map[string][]string{
	"internal/secret":     {},
	"internal/fault":      {},
	"internal/names":      {},
	"internal/wrapped":    {},
	"internal/durable":    {},
	"internal/pki":        {"internal/durable"},
	"internal/dialect":    {},
	"internal/gossipring": {"internal/secret"},
	// What a node shows and trusts on its connections, as files have it.
	"internal/tlsfiles": {"internal/config", "internal/gossipring", "internal/pki"},
	"internal/wordlist": {},
	"internal/outbound": {},
	"internal/console":  {}, // the files of the web console
	"internal/origin":   {},
	"internal/config":   {"internal/checkpoint", "internal/dialect", "internal/origin"},
	"api/wire":          {"internal/secret", "internal/fault"},
	"internal/cron":     {},
	"internal/sigv4":    {},
	// What a node keeps on its disk, sealed under keys that its HSM opens.
	"internal/atrest": {"internal/durable", "internal/fault", "internal/secret"},
	// What is signed over an audit trail: for the node that signs, and for those
	// who verify and witness without one.
	"internal/checkpoint": {},
	"internal/notice":     {},
	"internal/backup":     {"internal/durable", "internal/fault", "internal/secret", "internal/wrapped"},

	// Where backups go besides a folder: it implements engine.BackupStore.
	"internal/objectstore": {"internal/backup", "internal/config"},

	"pkcs11": {"internal/secret", "internal/fault", "internal/wrapped", "internal/dialect"},
	"fsm":    {"internal/names", "internal/fault", "internal/wrapped"},
	"iam":    {"internal/names", "internal/fault", "internal/secret"},
	"audit":  {"internal/checkpoint", "internal/durable", "internal/names", "internal/fault"},

	"kms":  {"fsm", "internal/names", "internal/fault", "internal/secret", "internal/wrapped"},
	"raft": {"fsm", "internal/atrest", "internal/durable", "internal/fault", "internal/secret"},

	"engine": {"fsm", "iam", "audit", "kms", "api/wire", "internal/backup", "internal/checkpoint", "internal/cron", "internal/notice", "internal/names", "internal/fault", "internal/secret", "internal/sigv4", "internal/wordlist", "internal/wrapped"},

	"client":         {"api/wire", "internal/secret", "internal/fault", "internal/sigv4"},
	"internal/agent": {"client", "api/wire", "internal/config", "internal/names", "internal/secret"},
	"api":            {"engine", "api/wire", "internal/console", "internal/fault", "internal/origin", "internal/secret", "internal/sigv4"},

	// The way out to the targets of rotations, as api is the way in: it
	// implements engine.Rotator, and engine knows no driver.
	"internal/rotate": {"engine", "api/wire", "internal/fault", "internal/outbound", "internal/secret"},
	// The way out to the issuers of trusts: it implements engine.TrustVerifier.
	"internal/trust": {"engine", "fsm", "internal/fault", "internal/outbound"},

	// The way out of the audit trail's events.
	"internal/sink": {"audit", "internal/durable", "internal/fault", "internal/outbound"},

	"cmd/strongroom": {"*"},
}

// soleImporter names the one package that may import a third-party library.
var soleImporter = map[string]string{
	"github.com/miekg/pkcs11":             "pkcs11",
	"github.com/hashicorp/raft":           "raft",
	"github.com/hashicorp/raft-boltdb/v2": "raft",
	"github.com/hashicorp/memberlist":     "raft",
	"go.etcd.io/bbolt":                    "raft",
	"github.com/fxamacker/cbor/v2":        "fsm",
	"github.com/spf13/cobra":              "cmd/strongroom",
	"github.com/jackc/pgx/v5":             "internal/rotate",
	"github.com/go-sql-driver/mysql":      "internal/rotate",
	"github.com/go-jose/go-jose/v4":       "internal/trust",
	"golang.org/x/oauth2":                 "cmd/strongroom",
	"filippo.io/age":                      "internal/backup",

	"github.com/aws/aws-sdk-go-v2/service/s3":               "internal/objectstore",
	"github.com/aws/aws-sdk-go-v2/feature/ec2/imds":         "internal/objectstore",
	"github.com/aws/aws-sdk-go-v2/credentials/ec2rolecreds": "internal/objectstore",
}

type source struct {
	pkg  string // folder below the root
	path string
	file *ast.File
	set  *token.FileSet
	test bool
}

func sources(t *testing.T) []source {
	var out []source
	set := token.NewFileSet()
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && path != root && (strings.HasPrefix(d.Name(), ".") || d.Name() == "bin" || d.Name() == "testdata" || d.Name() == "node_modules") {
			return filepath.SkipDir
		}
		if !strings.HasSuffix(path, ".go") {
			return nil
		}
		file, err := parser.ParseFile(set, path, nil, parser.SkipObjectResolution|parser.ParseComments)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, filepath.Dir(path))
		if err != nil {
			return err
		}
		out = append(out, source{filepath.ToSlash(rel), path, file, set, strings.HasSuffix(path, "_test.go")})
		return nil
	})
	require.NoError(t, err)
	require.Greater(t, len(out), 50, "the walk must have found the source")
	return out
}

func imports(s source) []string {
	var out []string
	for _, i := range s.file.Imports {
		path, err := strconv.Unquote(i.Path.Value)
		if err != nil {
			panic(err)
		}
		out = append(out, path)
	}
	return out
}

func TestFloors(t *testing.T) {
	for _, s := range sources(t) {
		if s.test || strings.HasPrefix(s.pkg, "test/") || s.pkg == "test" {
			continue
		}
		allowed, known := mayImport[s.pkg]
		require.True(t, known, "%s: package %s has no floor; give it one in this test and in the architecture", s.path, s.pkg)
		for _, path := range imports(s) {
			inner, ours := strings.CutPrefix(path, module)
			if !ours || slices.Contains(allowed, "*") && !strings.HasPrefix(inner, "test/") {
				continue
			}
			require.Contains(t, allowed, inner, "%s imports %s: not below its floor", s.path, inner)
		}
	}
}

func TestLibrariesHaveOneImporter(t *testing.T) {
	for _, s := range sources(t) {
		if s.test || strings.HasPrefix(s.pkg, "test/") {
			continue
		}
		for _, path := range imports(s) {
			if sole, ok := soleImporter[path]; ok {
				require.Equal(t, sole, s.pkg, "%s imports %s", s.path, path)
			}
		}
	}
}

// TestStateMachineIsPure forbids in fsm whatever would make two replicas
// differ: clocks, randomness, the environment, goroutines, logs.
func TestStateMachineIsPure(t *testing.T) {
	forbidden := []string{
		"time", "os", "math/rand", "math/rand/v2", "crypto/rand", "log", "log/slog", "net", "net/http",
		"runtime", "unsafe", "hash/maphash", "github.com/google/uuid",
	}
	seen := 0
	for _, s := range sources(t) {
		if s.pkg != "fsm" || s.test {
			continue
		}
		seen++
		for _, path := range imports(s) {
			require.NotContains(t, forbidden, path, "%s imports %s", s.path, path)
		}
		ast.Inspect(s.file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.GoStmt:
				t.Errorf("%s: a goroutine in the state machine", s.set.Position(n.Pos()))
			case *ast.SelectStmt:
				t.Errorf("%s: a select in the state machine picks at random", s.set.Position(n.Pos()))
			}
			return true
		})
	}
	require.Positive(t, seen)
}

// TestTestsDoNotSleepOrSkip: a sleep hides a race, a skip hides a failure.
func TestTestsDoNotSleepOrSkip(t *testing.T) {
	for _, s := range sources(t) {
		if !s.test && !strings.HasPrefix(s.pkg, "test/") {
			continue
		}
		ast.Inspect(s.file, func(n ast.Node) bool {
			call, ok := n.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			x, ok := call.X.(*ast.Ident)
			if !ok {
				return true
			}
			if x.Name == "time" && call.Sel.Name == "Sleep" ||
				x.Name == "t" && (call.Sel.Name == "Skip" || call.Sel.Name == "Skipf" || call.Sel.Name == "SkipNow") {
				t.Errorf("%s: %s.%s", s.set.Position(n.Pos()), x.Name, call.Sel.Name)
			}
			return true
		})
	}
}

// TestEveryPackageSaysWhatItIsFor: a package comment somewhere in it.
func TestEveryPackageSaysWhatItIsFor(t *testing.T) {
	said := map[string]bool{}
	for _, s := range sources(t) {
		if !s.test {
			said[s.pkg] = said[s.pkg] || s.file.Doc != nil
		}
	}
	for pkg, ok := range said {
		require.True(t, ok, "package %s has no package comment", pkg)
	}
}

func TestDesignPages(t *testing.T) {
	for _, pkg := range []string{"raft", "fsm", "audit", "kms", "pkcs11", "engine"} {
		info, err := os.Stat(filepath.Join(root, pkg, "DESIGN.md"))
		require.NoError(t, err)
		require.Greater(t, info.Size(), int64(1000), pkg)
	}
}
