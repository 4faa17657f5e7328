package config

import (
	"fmt"
	"net/netip"
	"net/url"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// Sink is one follower of the audit trail. A setting with the tag for is for
// sinks of these types only.
type Sink struct {
	Name        string   `yaml:"name" doc:"Name of the sink, once and for ever: 1 to 63 of a-z 0-9 and -. It is in metrics and in the name of the cursor's file. Required."`
	Type        string   `yaml:"type" doc:"file, syslog, webhook or stdout. Required."`
	Format      string   `yaml:"format" default:"native" doc:"native (the lines of the trail, byte for byte), ecs or ocsf."`
	Events      []string `yaml:"events" doc:"Names of events that the sink gets, a * stands for any rest: [\"alert.*\", \"iam.*\"]. None: all."`
	Outcomes    []string `yaml:"outcomes" doc:"Outcomes that the sink gets: ok, denied, failed. None: all."`
	Start       string   `yaml:"start" default:"oldest" doc:"Where a sink that has no cursor yet begins: oldest (the oldest event that is kept) or newest (what happens from now on)."`
	BatchEvents int      `yaml:"batchEvents" default:"500" doc:"Most events handed over at once, 1 to 10000."`
	BatchBytes  int      `yaml:"batchBytes" default:"1048576" doc:"Most bytes handed over at once, 4096 to 16777216; one event is handed over however long it is."`
	BatchTime   Duration `yaml:"batchTime" default:"500ms" doc:"How long events are collected before they are handed over, 1ms to 1m."`

	Path     string `yaml:"path" for:"file" doc:"The file, absolute. Its folder must be there."`
	MaxBytes int64  `yaml:"maxBytes" for:"file" doc:"Size at which the file becomes path.1 and a new one is begun, 64 KiB or more. 0: never; somebody else rotates, and sends SIGHUP or not."`
	Keep     int    `yaml:"keep" for:"file" default:"10" doc:"Rotated files that are kept, path.1 (the newest) to path.N, 1 to 1000. Only with maxBytes."`

	Address          string `yaml:"address" for:"syslog" doc:"host:port of the receiver of RFC 5425 (syslog over TLS), usually port 6514."`
	Facility         string `yaml:"facility" for:"syslog" default:"local0" doc:"Facility: auth, authpriv, audit, daemon, user, or local0 to local7."`
	AppName          string `yaml:"appName" for:"syslog" default:"strongroom" doc:"APP-NAME of RFC 5424, 1 to 48 printable ASCII characters."`
	EnterpriseNumber int    `yaml:"enterpriseNumber" for:"syslog" default:"32473" doc:"Private enterprise number in the name of the structured data, strongroom@32473. The default is the one that RFC 5612 sets aside for examples; put your own here if you have one."`

	URL               string `yaml:"url" for:"webhook" doc:"Where batches are posted to: https, or http on this machine. It is no place for a secret."`
	SigningKeyFile    string `yaml:"signingKeyFile" for:"webhook" doc:"File with the key of the signature: 32 bytes or more in base64, mode 0600. Read again for each request. Required."`
	AuthorizationFile string `yaml:"authorizationFile" for:"webhook" doc:"File with what the header Authorization holds, such as Bearer …, mode 0600. Read again for each request. Empty: none."`

	CAFile         string   `yaml:"caFile" for:"syslog webhook" doc:"Certificate authorities of the receiver (PEM). Empty: those of the system."`
	ClientCertFile string   `yaml:"clientCertFile" for:"syslog webhook" doc:"Certificate that is shown to the receiver (PEM). Empty: none."`
	ClientKeyFile  string   `yaml:"clientKeyFile" for:"syslog webhook" doc:"Its private key (PEM), mode 0600."`
	Timeout        Duration `yaml:"timeout" for:"syslog webhook" default:"10s" doc:"Longest time of one connection or request, 100ms to 5m."`
}

var (
	sinkTypes      = []string{"file", "syslog", "webhook", "stdout"}
	sinkFacilities = []string{"auth", "authpriv", "audit", "daemon", "user", "local0", "local1", "local2", "local3", "local4", "local5", "local6", "local7"}
	sinkEvent      = regexp.MustCompile(`^[a-z0-9._]*\*?$`)
)

// isFor reports whether a field is for sinks of the given type.
func isFor(f reflect.StructField, sinkType string) bool {
	types := f.Tag.Get("for")
	return types == "" || slices.Contains(strings.Fields(types), sinkType)
}

// defaults fills in what is not set and is for the type of s.
func (s *Sink) defaults() {
	v := reflect.ValueOf(s).Elem()
	for i := range v.NumField() {
		f := v.Type().Field(i)
		if text := f.Tag.Get("default"); text != "" && v.Field(i).IsZero() && isFor(f, s.Type) {
			if err := yaml.Unmarshal([]byte(text), v.Field(i).Addr().Interface()); err != nil {
				panic("config: default of audit.sinks." + f.Tag.Get("yaml") + ": " + err.Error()) // a tag of ours; a test reads them all
			}
		}
	}
}

// sinks checks audit.sinks.
func (c *Config) sinks(f *faultList) {
	names, paths := map[string]bool{}, map[string]bool{}
	for i := range c.Audit.Sinks {
		s := &c.Audit.Sinks[i]
		at := fmt.Sprintf("audit.sinks[%d]", i)
		f.check(validNodeID(s.Name), at+".name", "must be 1 to 63 of a-z 0-9 and -, starting with a letter or a digit; it is %q", s.Name)
		f.check(!names[s.Name], at+".name", "%q is there twice; each sink has a cursor of its own", s.Name)
		f.check(s.Path == "" || !paths[s.Path], at+".path", "%q is there twice; two sinks would rotate it under each other", s.Path)
		names[s.Name], paths[s.Path] = true, true
		if !slices.Contains(sinkTypes, s.Type) {
			f.add(at+".type", "must be %s; it is %q", strings.Join(sinkTypes, ", "), s.Type)
			continue
		}
		s.foreign(f, at)
		s.common(f, at)
		switch s.Type {
		case "file":
			s.file(f, at)
		case "syslog":
			s.syslog(f, at)
		case "webhook":
			s.webhook(f, at)
		}
	}
}

// foreign refuses settings of other types: whoever makes one believes that it
// does something.
func (s *Sink) foreign(f *faultList, at string) {
	v := reflect.ValueOf(s).Elem()
	for i := range v.NumField() {
		field := v.Type().Field(i)
		f.check(isFor(field, s.Type) || v.Field(i).IsZero(), at+"."+field.Tag.Get("yaml"),
			"is for sinks of the type %s; remove it", strings.ReplaceAll(field.Tag.Get("for"), " ", " and "))
	}
}

func (s *Sink) common(f *faultList, at string) {
	f.check(slices.Contains([]string{"native", "ecs", "ocsf"}, s.Format), at+".format", "must be native, ecs or ocsf; it is %q", s.Format)
	f.check(s.Start == "oldest" || s.Start == "newest", at+".start", "must be oldest or newest; it is %q", s.Start)
	for _, pattern := range s.Events {
		f.check(pattern != "" && sinkEvent.MatchString(pattern), at+".events", "must hold names of events, each with a * at its end or none, such as secrets.*; it has %q", pattern)
	}
	for _, outcome := range s.Outcomes {
		f.check(slices.Contains([]string{"ok", "denied", "failed"}, outcome), at+".outcomes", "must hold ok, denied or failed; it has %q", outcome)
	}
	f.check(s.BatchEvents >= 1 && s.BatchEvents <= 10_000, at+".batchEvents", "must be between 1 and 10000; it is %d", s.BatchEvents)
	f.check(s.BatchBytes >= 4096 && s.BatchBytes <= 16<<20, at+".batchBytes", "must be between 4096 and 16777216; it is %d", s.BatchBytes)
	f.check(s.BatchTime.D() >= time.Millisecond && s.BatchTime.D() <= time.Minute, at+".batchTime", "must be between 1ms and 1m; it is %v", s.BatchTime)
}

func (s *Sink) file(f *faultList, at string) {
	f.check(filepath.IsAbs(s.Path) && filepath.Clean(s.Path) == s.Path, at+".path", "must be an absolute path without . and ..; it is %q", s.Path)
	f.check(s.MaxBytes == 0 || s.MaxBytes >= 64<<10, at+".maxBytes", "must be 0 (nothing is rotated) or at least 65536; it is %d", s.MaxBytes)
	f.check(s.Keep >= 1 && s.Keep <= 1000, at+".keep", "must be between 1 and 1000; it is %d", s.Keep)
}

func (s *Sink) syslog(f *faultList, at string) {
	if err := hostPort(s.Address); err != nil {
		f.add(at+".address", "%v", err)
	} else {
		f.check(reachable(s.Address), at+".address", "%q names no host", s.Address)
	}
	f.check(slices.Contains(sinkFacilities, s.Facility), at+".facility", "must be one of %s; it is %q", strings.Join(sinkFacilities, ", "), s.Facility)
	printable := !strings.ContainsFunc(s.AppName, func(r rune) bool { return r < 33 || r > 126 })
	f.check(len(s.AppName) >= 1 && len(s.AppName) <= 48 && printable, at+".appName", "must have 1 to 48 printable ASCII characters and no space; it is %q", s.AppName)
	f.check(s.EnterpriseNumber >= 1 && int64(s.EnterpriseNumber) <= 1<<32-1, at+".enterpriseNumber", "must be a private enterprise number of IANA; it is %d", s.EnterpriseNumber)
	s.tls(f, at)
}

func (s *Sink) webhook(f *faultList, at string) {
	u, err := url.Parse(s.URL)
	plain := err == nil && (u.Scheme == "https" || u.Scheme == "http" && isLoopback(u.Hostname())) && u.Host != "" && u.User == nil && u.Fragment == "" && u.Opaque == ""
	f.check(plain && len(s.URL) <= 2048, at+".url", "must be an https URL without user and fragment (http only for this machine), of at most 2048 characters")
	f.check(filepath.IsAbs(s.SigningKeyFile), at+".signingKeyFile", "must be the absolute path of a file with the key, which head -c 32 /dev/urandom | base64 makes; it is %q", s.SigningKeyFile)
	f.check(s.AuthorizationFile == "" || filepath.IsAbs(s.AuthorizationFile), at+".authorizationFile", "must be empty or an absolute path; it is %q", s.AuthorizationFile)
	s.tls(f, at)
}

func isLoopback(host string) bool {
	a, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && a.IsLoopback()
}

func (s *Sink) tls(f *faultList, at string) {
	for _, p := range []struct{ name, path string }{{".caFile", s.CAFile}, {".clientCertFile", s.ClientCertFile}, {".clientKeyFile", s.ClientKeyFile}} {
		f.check(p.path == "" || filepath.IsAbs(p.path), at+p.name, "must be empty or an absolute path; it is %q", p.path)
	}
	f.check((s.ClientCertFile == "") == (s.ClientKeyFile == ""), at+".clientKeyFile", "and clientCertFile are only of use together")
	f.check(s.Timeout.D() >= 100*time.Millisecond && s.Timeout.D() <= 5*time.Minute, at+".timeout", "must be between 100ms and 5m; it is %v", s.Timeout)
}

// sinkFiles answers the files that sinks read, by the names of the settings.
func (c *Config) sinkFiles() []namedFile {
	var out []namedFile
	for i, s := range c.Audit.Sinks {
		at := fmt.Sprintf("audit.sinks[%d].", i)
		for _, one := range []namedFile{
			{at + "signingKeyFile", s.SigningKeyFile, true}, {at + "authorizationFile", s.AuthorizationFile, true},
			{at + "caFile", s.CAFile, false}, {at + "clientCertFile", s.ClientCertFile, false}, {at + "clientKeyFile", s.ClientKeyFile, true},
		} {
			if one.path != "" {
				out = append(out, one)
			}
		}
	}
	return out
}

// sinkReference is the table of what an entry of audit.sinks may hold.
func sinkReference() string {
	var b strings.Builder
	b.WriteString("### audit.sinks\nWhat each entry may hold. [The manual](siem.md) has examples.\n\n| setting | for | default | meaning |\n|---|---|---|---|\n")
	t := reflect.TypeFor[Sink]()
	for i := range t.NumField() {
		f := t.Field(i)
		types, value := "all", "none"
		if f.Tag.Get("for") != "" {
			types = strings.ReplaceAll(f.Tag.Get("for"), " ", ", ")
		}
		if text := f.Tag.Get("default"); text != "" {
			value = "`" + text + "`"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", f.Tag.Get("yaml"), types, value, strings.ReplaceAll(f.Tag.Get("doc"), "|", `\|`))
	}
	b.WriteString("\n")
	return b.String()
}
