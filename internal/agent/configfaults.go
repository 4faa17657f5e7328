package agent

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/strongroom/strongroom/internal/config"
	"github.com/strongroom/strongroom/internal/names"
)

// Defaults of the settings that have one which is not empty.
const (
	defaultMode    = Mode(0o600)
	defaultTimeout = 30 * time.Second
)

func (c *Config) defaults() {
	if c.Log.Level == "" {
		c.Log.Level = "info"
	}
	if c.Log.Format == "" {
		c.Log.Format = "text"
	}
	for i := range c.Files {
		f := &c.Files[i]
		if f.Mode == 0 {
			f.Mode = defaultMode
		}
		if f.OnDenied == "" {
			f.OnDenied = DeniedKeep
		}
		if f.Confirm == "" {
			f.Confirm = AfterCommand
			if f.OnChange.none() {
				f.Confirm = AfterWrite
			}
		}
		if f.OnChange.Timeout == 0 {
			f.OnChange.Timeout = config.Duration(defaultTimeout)
		}
	}
}

// faultList collects what is wrong, each with the name of the setting.
type faultList []string

func (f *faultList) check(ok bool, setting, format string, args ...any) {
	if !ok {
		*f = append(*f, setting+": "+fmt.Sprintf(format, args...))
	}
}

// credentialFaults wants one credential: with two, nobody could tell from the
// file as whom the agent asks.
func (c *Connection) credentialFaults(f *faultList) {
	if c.AccessKeyID == "" && c.SecretAccessKeyFile == "" {
		f.check(filepath.IsAbs(c.TokenFile), "connection.tokenFile", "must be the absolute path of a file with a token, mode 0600; it is %q", c.TokenFile)
		return
	}
	f.check(c.TokenFile == "", "connection.tokenFile", "is a second credential beside the access key; give one")
	f.check(c.AccessKeyID != "", "connection.accessKeyId", "is missing; it is the id of the access key whose secret is in connection.secretAccessKeyFile")
	f.check(filepath.IsAbs(c.SecretAccessKeyFile), "connection.secretAccessKeyFile", "must be the absolute path of a file with the secret of the access key, mode 0600; it is %q", c.SecretAccessKeyFile)
}

func (c *Config) faults() []string {
	var f faultList
	f.check(len(c.Connection.Addresses) > 0, "connection.addresses", "names no node; list some, such as https://strongroom1:7400")
	f.check(c.Connection.CAFile == "" || filepath.IsAbs(c.Connection.CAFile), "connection.caFile", "must be empty or an absolute path; it is %q", c.Connection.CAFile)
	c.Connection.credentialFaults(&f)
	if c.Connection.Instance != "" {
		_, err := names.ParseName(c.Connection.Instance)
		f.check(err == nil, "connection.instance", "%v", err)
	}
	f.check(c.Connection.MaxAge >= 0, "connection.maxAge", "must not be negative")
	f.check(c.Connection.Splay >= 0, "connection.splay", "must not be negative")
	var level slog.Level
	f.check(level.UnmarshalText([]byte(c.Log.Level)) == nil, "log.level", "must be debug, info, warn or error; it is %q", c.Log.Level)
	f.check(c.Log.Format == "text" || c.Log.Format == "json", "log.format", "must be text or json; it is %q", c.Log.Format)
	f.check(c.Status.Listen == "" || loopback(c.Status.Listen), "status.listen", "must be an address of this machine only, such as 127.0.0.1:7410 or [::1]:7410; it is %q", c.Status.Listen)
	f.check(len(c.Files) > 0, "files", "lists no file; the agent has nothing to do")
	seen := map[string]bool{}
	for i := range c.Files {
		one := &c.Files[i]
		name := fmt.Sprintf("files[%d]", i)
		f.check(!seen[filepath.Clean(one.Destination)], name+".destination", "%s is there twice", one.Destination)
		seen[filepath.Clean(one.Destination)] = true
		one.faults(&f, name)
	}
	return f
}

func loopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	ip, parseErr := netip.ParseAddr(host)
	return err == nil && parseErr == nil && ip.IsLoopback()
}

func (one *File) faults(f *faultList, name string) {
	f.check((one.Path == "") != (one.Template == ""), name, "must have either path or template")
	if one.Path != "" {
		_, err := names.ParsePath(one.Path)
		f.check(err == nil, name+".path", "%v", err)
	}
	f.check(one.Template == "" || filepath.IsAbs(one.Template), name+".template", "must be an absolute path; it is %q", one.Template)
	f.check(one.Field == "" || one.Path != "", name+".field", "goes with path; in a template, use secretJSON")
	f.check(filepath.IsAbs(one.Destination) && filepath.Clean(one.Destination) == one.Destination, name+".destination", "must be an absolute path without . or ..; it is %q", one.Destination)
	f.check(one.Mode&0o007 == 0 || one.WorldReadable, name+".mode", "%#o lets everybody on this machine read the file; use 0600 or 0640, or set worldReadable if that is wanted", one.Mode)
	f.check(one.Mode&0o022 == 0, name+".mode", "%#o lets others write to the file; use 0600 or 0640", one.Mode)
	f.check(one.Mode&0o400 != 0, name+".mode", "%#o lets not even the owner read the file; use 0600", one.Mode)
	f.check(slices.Contains([]string{AfterWrite, AfterCommand}, one.Confirm), name+".confirm", "must be %s or %s; it is %q", AfterWrite, AfterCommand, one.Confirm)
	f.check(one.Confirm != AfterCommand || !one.OnChange.none(), name+".confirm", "%s needs a command or a signal in onChange", AfterCommand)
	f.check(slices.Contains([]string{DeniedKeep, DeniedRemove}, one.OnDenied), name+".onDenied", "must be %s or %s; it is %q", DeniedKeep, DeniedRemove, one.OnDenied)
	one.OnChange.faults(f, name+".onChange")
	var err error
	one.ids, err = owner(one.Owner, one.Group)
	f.check(err == nil, name+".owner, group", "%v", err)
}

func (o OnChange) faults(f *faultList, name string) {
	f.check(len(o.Command) == 0 || o.Signal == nil, name, "must have a command or a signal, not both")
	f.check(len(o.Command) == 0 || filepath.IsAbs(o.Command[0]), name+".command", "must begin with the absolute path of a program; there is no shell; it is %q", o.Command)
	f.check(o.Timeout > 0, name+".timeout", "must be longer than 0")
	if o.Signal != nil {
		f.check(filepath.IsAbs(o.Signal.PIDFile), name+".signal.pidFile", "must be an absolute path; it is %q", o.Signal.PIDFile)
		_, err := ParseSignal(o.Signal.Signal)
		f.check(err == nil, name+".signal.signal", "%v", err)
	}
}

// owner looks names up; numbers are taken as they are.
func owner(name, group string) (Owner, error) {
	out := Owner{-1, -1}
	if name == "" && group == "" {
		return out, nil
	}
	if os.Geteuid() != 0 {
		return out, errors.New("only root can give files away; leave both out, or run the agent as root")
	}
	if name != "" {
		if u, err := user.Lookup(name); err == nil {
			name = u.Uid
		}
		n, err := strconv.Atoi(name)
		if err != nil || n < 0 {
			return out, fmt.Errorf("there is no user %q", name)
		}
		out.UID = n
	}
	if group != "" {
		if g, err := user.LookupGroup(group); err == nil {
			group = g.Gid
		}
		n, err := strconv.Atoi(group)
		if err != nil || n < 0 {
			return out, fmt.Errorf("there is no group %q", group)
		}
		out.GID = n
	}
	return out, nil
}
