// Package monitoring_test holds deploy/prometheus and deploy/grafana against a
// running cluster and a real Prometheus: every alert loads, fires when it
// should and has a runbook; every query of every board and every alert is about
// something that there is.
package monitoring_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"github.com/strongroom/strongroom/test/localcluster"
)

const root = "../.."

var suite localcluster.Suite

func TestMain(m *testing.M) { os.Exit(suite.Run(m)) }

// alert is one rule of deploy/prometheus.
type alert struct {
	file        string
	Name        string            `yaml:"alert"`
	Expr        string            `yaml:"expr"`
	For         string            `yaml:"for"`
	Labels      map[string]string `yaml:"labels"`
	Annotations map[string]string `yaml:"annotations"`
}

func files(t *testing.T, pattern string) []string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(root, pattern))
	require.NoError(t, err)
	require.NotEmpty(t, found, pattern)
	return found
}

func load(t *testing.T, name string, into any) {
	t.Helper()
	raw, err := os.ReadFile(name)
	require.NoError(t, err)
	if strings.HasSuffix(name, ".json") {
		require.NoError(t, json.Unmarshal(raw, into), name)
		return
	}
	require.NoError(t, yaml.Unmarshal(raw, into), name)
}

func alerts(t *testing.T) []alert {
	t.Helper()
	var out []alert
	for _, name := range files(t, "deploy/prometheus/rules/*.yml") {
		var file struct {
			Groups []struct {
				Name  string  `yaml:"name"`
				Rules []alert `yaml:"rules"`
			} `yaml:"groups"`
		}
		load(t, name, &file)
		for _, g := range file.Groups {
			for _, rule := range g.Rules {
				rule.file = strings.TrimSuffix(filepath.Base(name), ".yml")
				out = append(out, rule)
			}
		}
	}
	return out
}

// query is one target of a panel of a board.
type query struct{ board, panel, expr string }

// queries answers those of all boards, with the variables put in.
func queries(t *testing.T, job string) []query {
	t.Helper()
	put := strings.NewReplacer("$job", job, "$__rate_interval", "1m")
	var out []query
	for _, name := range files(t, "deploy/grafana/*.json") {
		var board struct {
			Title  string `json:"title"`
			Panels []struct {
				Title   string `json:"title"`
				Type    string `json:"type"`
				Targets []struct {
					Expr string `json:"expr"`
				} `json:"targets"`
			} `json:"panels"`
		}
		load(t, name, &board)
		for _, p := range board.Panels {
			if p.Type != "row" {
				require.NotEmpty(t, p.Targets, "%s: %s", board.Title, p.Title)
			}
			for _, target := range p.Targets {
				out = append(out, query{board.Title, p.Title, put.Replace(target.Expr)})
			}
		}
	}
	return out
}

var metric = regexp.MustCompile(`\bstrongroom_[a-z_]+[a-z]\b`)
