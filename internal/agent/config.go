package agent

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/strongroom/strongroom/internal/config"
)

// Config is the file of the agent. docs/agent.md describes every setting.
type Config struct {
	Connection Connection `yaml:"connection"`
	Log        config.Log `yaml:"log"`
	Status     Status     `yaml:"status"`
	Files      []File     `yaml:"files"`
}

// Connection says where the cluster is, and who asks: by a token, or by an
// access key that signs each request.
type Connection struct {
	Addresses           []string        `yaml:"addresses"`
	CAFile              string          `yaml:"caFile"`
	TokenFile           string          `yaml:"tokenFile"`
	AccessKeyID         string          `yaml:"accessKeyId"`
	SecretAccessKeyFile string          `yaml:"secretAccessKeyFile"`
	Instance            string          `yaml:"instance"`
	MaxAge              config.Duration `yaml:"maxAge"`
	Splay               config.Duration `yaml:"splay"`
}

// Status configures the listener for health checks.
type Status struct {
	Listen string `yaml:"listen"`
}

// File is one file that is kept up to date: the value of a secret, or what a
// template makes of some.
type File struct {
	Path          string   `yaml:"path"`
	Field         string   `yaml:"field"`
	Template      string   `yaml:"template"`
	Destination   string   `yaml:"destination"`
	Mode          Mode     `yaml:"mode"`
	WorldReadable bool     `yaml:"worldReadable"`
	Owner         string   `yaml:"owner"`
	Group         string   `yaml:"group"`
	OnChange      OnChange `yaml:"onChange"`
	Confirm       string   `yaml:"confirm"`
	OnDenied      string   `yaml:"onDenied"`

	ids Owner
}

// OnChange is what is done after a file was written.
type OnChange struct {
	Command []string        `yaml:"command"`
	Timeout config.Duration `yaml:"timeout"`
	Signal  *PIDSignal      `yaml:"signal"`
}

func (o OnChange) none() bool { return len(o.Command) == 0 && o.Signal == nil }

// PIDSignal is a signal to the process whose number is in a file.
type PIDSignal struct {
	PIDFile string `yaml:"pidFile"`
	Signal  string `yaml:"signal"`
}

// When a version is confirmed, and what happens to a file whose value is denied.
const (
	AfterWrite   = "afterWrite"
	AfterCommand = "afterCommand"
	DeniedKeep   = "keep"
	DeniedRemove = "remove"
)

// Mode is the permission of a file, written in octal: "0640".
type Mode uint32

var octal = regexp.MustCompile(`^0?[0-7]{3}$`)

// UnmarshalYAML takes three octal digits, quoted or not.
func (m *Mode) UnmarshalYAML(n *yaml.Node) error {
	if n.Kind != yaml.ScalarNode || !octal.MatchString(n.Value) {
		return fmt.Errorf("line %d: mode %q must be three octal digits such as 0600", n.Line, n.Value)
	}
	parsed, err := strconv.ParseUint(n.Value, 8, 32)
	*m = Mode(parsed)
	return err
}

// LoadConfig reads and checks a file. The error lists every fault, one a line,
// with the name of the setting. It does not look at the files that are named.
func LoadConfig(path string) (Config, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return Config{}, fmt.Errorf("configuration: %w", err)
	}
	c, err := ParseConfig(raw)
	if err != nil {
		return Config{}, fmt.Errorf("configuration %s:\n%w", path, err)
	}
	return c, nil
}

// ParseConfig is LoadConfig for the file's content.
func ParseConfig(raw []byte) (Config, error) {
	var c Config
	d := yaml.NewDecoder(bytes.NewReader(raw))
	d.KnownFields(true)
	if err := d.Decode(&c); err != nil && !errors.Is(err, io.EOF) {
		return Config{}, explainYAML(err)
	}
	if err := d.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return Config{}, errors.New("  there is more than one YAML document; keep the first and remove the lines from --- on")
	}
	c.defaults()
	if faults := c.faults(); len(faults) > 0 {
		return Config{}, errors.New("  " + strings.Join(faults, "\n  "))
	}
	return c, nil
}

var unknownField = regexp.MustCompile(`field (.*) not found in type (?:agent|config)\.(\w+)`)

// explainYAML puts yaml's message in our words.
func explainYAML(err error) error {
	var typed *yaml.TypeError
	if !errors.As(err, &typed) {
		return fmt.Errorf("  %w", err)
	}
	lines := make([]string, 0, len(typed.Errors))
	for _, one := range typed.Errors {
		section := map[string]string{
			"Config": "the file", "Connection": "connection", "Log": "log", "Status": "status", "File": "files",
			"OnChange": "files[].onChange", "PIDSignal": "files[].onChange.signal",
		}
		if m := unknownField.FindStringSubmatch(one); m != nil {
			one = strings.Replace(one, m[0], m[1]+" is not a setting of "+section[m[2]]+" (docs/agent.md lists them all)", 1)
		}
		lines = append(lines, "  "+one)
	}
	return errors.New(strings.Join(lines, "\n"))
}
