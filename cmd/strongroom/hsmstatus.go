package main

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/strongroom/strongroom/internal/config"
	"github.com/strongroom/strongroom/internal/dialect"
	"github.com/strongroom/strongroom/internal/fault"
	"github.com/strongroom/strongroom/pkcs11"
)

// hsmStatus is what a node's HSM was seen to do, by doing it.
type hsmStatus struct {
	Module       string        `json:"module"`
	Token        string        `json:"token"`
	Serial       string        `json:"serial"`
	Dialect      dialectStatus `json:"dialect"`
	IVMode       string        `json:"ivMode"`
	IVBytes      uint32        `json:"ivBytes"`
	Wrap         string        `json:"wrap"`
	PadWrap      string        `json:"padWrap,omitempty"` // mechanism number
	Specs        []string      `json:"specs"`
	Sign         []string      `json:"signAlgorithms"`
	OAEP         []string      `json:"oaep"`
	Lacks        []string      `json:"lacks,omitempty"`
	TransportKey string        `json:"transportKeyFingerprint,omitempty"`
	RootProfile  string        `json:"rootProfile,omitempty"` // of the transport key
}

// dialectStatus is how the module is spoken to: what the configuration says,
// presets included, and what the token says of its sessions.
type dialectStatus struct {
	Vendor          string            `json:"vendor"`
	IVMode          string            `json:"ivMode"` // asked for; auto: found by the probe
	Mechanisms      map[string]string `json:"mechanisms"`
	LoginPerSession bool              `json:"loginPerSession"`
	Sessions        int               `json:"sessions"`                // a worker needs
	MaxSessions     int               `json:"maxSessions,omitempty"`   // by the configuration
	TokenSessions   uint32            `json:"tokenSessions,omitempty"` // by the token
}

func hsmStatusCommand() *cobra.Command {
	var configFile string
	cmd := &cobra.Command{
		Use: "status --config FILE [-o table|json]", Args: cobra.NoArgs,
		Short: "Probe this node's HSM in a process of its own, and say what it can do",
		Long: `Opens the token of the configuration as a server would, does each operation that
a server needs, and says what works and what the module lacks. Nothing is kept
in the token, and no server needs to run; one that runs is not disturbed. It
opens as many sessions of the token as a server does, beside those of a server.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			format, err := outputFormat(cmd)
			if err != nil {
				return err
			}
			cfg, err := hsmOnly(configFile)
			if err != nil {
				return err
			}
			var status hsmStatus
			err = withDevice(cmd.Context(), cfg, func(d *pkcs11.Device) error {
				status = statusOf(cfg.HSM, d.Health().Profile)
				key, err := d.TransportKey(cmd.Context())
				if fault.Is(err, fault.NotFound) {
					return nil // a token before its first ceremony
				}
				status.TransportKey, status.RootProfile = fmt.Sprintf("%x", key.Fingerprint), key.Profile
				return err
			})
			if err != nil {
				return err
			}
			return writeHSMStatus(cmd.OutOrStdout(), format, status)
		},
	}
	cmd.Flags().StringVar(&configFile, "config", "", "configuration file of the node")
	cmd.Flags().StringP("output", "o", formatTable, "table or json")
	return cmd
}

func statusOf(cfg config.HSM, p pkcs11.Profile) hsmStatus {
	d := cfg.Dialect()
	s := hsmStatus{
		Module: p.Module, Token: p.Token, Serial: p.Serial, IVMode: p.IVMode, IVBytes: p.IVBytes, Wrap: p.Wrap,
		Specs: p.Specs, Sign: p.Sign, OAEP: p.OAEP, Lacks: p.Lacks,
		Dialect: dialectStatus{
			Vendor: cfg.Vendor, IVMode: d.IVMode, Mechanisms: map[string]string{}, LoginPerSession: d.LoginPerSession,
			Sessions: dialect.NeededSessions(cfg.Sessions), MaxSessions: d.MaxSessions, TokenSessions: p.TokenSessions,
		},
	}
	for name, number := range d.Mechanisms {
		s.Dialect.Mechanisms[name] = fmt.Sprintf("%#x", number)
	}
	if p.PadWrap != 0 {
		s.PadWrap = fmt.Sprintf("%#x", p.PadWrap)
	}
	return s
}

func writeHSMStatus(w io.Writer, format string, s hsmStatus) error {
	if format == formatJSON {
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		return e.Encode(s)
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, row := range [][2]string{
		{"module", s.Module}, {"token", s.Token}, {"serial", s.Serial}, {"vendor", s.Dialect.Vendor},
		{"AES-GCM IV", fmt.Sprintf("%s, %d bytes (hsm.ivMode: %s)", s.IVMode, s.IVBytes, s.Dialect.IVMode)},
		{"own mechanism numbers", orNone(s.Dialect.numbers())}, {"log-in", s.Dialect.logIn()}, {"sessions", s.Dialect.sessions()},
		{"wrap of secret keys", s.Wrap},
		{"wrap of private keys", orNone(s.PadWrap)}, {"key specs", strings.Join(s.Specs, " ")}, {"signatures", strings.Join(s.Sign, " ")},
		{"RSA-OAEP", strings.Join(s.OAEP, " ")}, {"lacks", orNone(strings.Join(s.Lacks, "; "))}, {"transport key", orNone(s.TransportKey)},
		{"root key can leave", orNone(map[string]string{
			pkcs11.Strict: "never (strict)", pkcs11.Flexible: "with the security officer's consent (flexible)"}[s.RootProfile])},
	} {
		if _, err := fmt.Fprintf(t, "%s\t%s\n", row[0], printable(row[1])); err != nil {
			return err
		}
	}
	return t.Flush()
}

func (d dialectStatus) numbers() string {
	var out []string
	for _, name := range slices.Sorted(maps.Keys(d.Mechanisms)) {
		out = append(out, name+" "+d.Mechanisms[name])
	}
	return strings.Join(out, ", ")
}

func (d dialectStatus) logIn() string {
	if d.LoginPerSession {
		return "in each session"
	}
	return "once for the process"
}

func (d dialectStatus) sessions() string {
	told := func(n int) string {
		if n == 0 {
			return "not known"
		}
		return strconv.Itoa(n)
	}
	return fmt.Sprintf("needs %d; hsm.maxSessions: %s; the token allows: %s", d.Sessions, told(d.MaxSessions), told(int(d.TokenSessions)))
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}
