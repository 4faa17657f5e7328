package config

import (
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/google/uuid"

	"github.com/strongroom/strongroom/internal/dialect"
)

// faultList collects what is wrong, each with the name of the setting.
type faultList []string

func (f *faultList) add(setting, format string, args ...any) {
	*f = append(*f, setting+": "+fmt.Sprintf(format, args...))
}

func (f *faultList) check(ok bool, setting, format string, args ...any) {
	if !ok {
		f.add(setting, format, args...)
	}
}

// faults lists everything that is wrong with c by itself, without looking at
// any file.
func (c *Config) faults() []string {
	var f faultList
	f.check(validNodeID(c.Node.ID), "node.id", "must be 1 to 63 of a-z 0-9 and -, starting with a letter or a digit; it is %q", c.Node.ID)
	parsed, err := uuid.Parse(c.Cluster.ID)
	f.check(err == nil && parsed.String() == c.Cluster.ID, "cluster.id", "must be a UUID in lower case, the same on all nodes; make one with uuidgen; it is %q", c.Cluster.ID)
	c.paths(&f)
	c.Snapshots.check(&f)
	c.addresses(&f)
	c.members(&f)
	c.bounds(&f)
	c.timing(&f)
	c.allowLists(&f)
	c.sinks(&f)
	if _, err := c.Proxies(); err != nil {
		f.add("api.trustedProxies", "%v", err)
	}
	var level slog.Level
	f.check(level.UnmarshalText([]byte(c.Log.Level)) == nil, "log.level", "must be debug, info, warn or error; it is %q", c.Log.Level)
	f.check(c.Log.Format == "text" || c.Log.Format == "json", "log.format", "must be text or json; it is %q", c.Log.Format)
	return f
}

func validNodeID(id string) bool {
	matched, err := regexp.MatchString(`^[a-z0-9][a-z0-9-]{0,62}$`, id)
	return err == nil && matched
}

var hostPattern = regexp.MustCompile(`^(\*\.)?[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$`)

// allowLists: an entry that could match nothing, or more than it says, is a
// fault and not a surprise.
func (c *Config) allowLists(f *faultList) {
	for _, list := range []struct {
		name    string
		entries []string
	}{{"rotation.webhookAllow", c.Rotation.WebhookAllow}, {"rotation.databaseAllow", c.Rotation.DatabaseAllow}} {
		for _, entry := range list.entries {
			host := entry
			port := "443"
			if h, p, err := net.SplitHostPort(entry); err == nil {
				host, port = h, p
			}
			number, err := strconv.ParseUint(port, 10, 16)
			_, notAddress := netip.ParseAddr(host)
			f.check(err == nil && number != 0 && (notAddress == nil || hostPattern.MatchString(host)), list.name,
				"must be a host in lower case, *.domain or an address, with :port unless it is the usual one; it is %q", entry)
		}
	}
}

// paths: a relative path would mean another file after a change of folder.
func (c *Config) paths(f *faultList) {
	for _, p := range []struct{ name, path string }{
		{"node.dataDir", c.Node.DataDir}, {"api.certFile", c.API.CertFile}, {"api.keyFile", c.API.KeyFile},
		{"cluster.certFile", c.Cluster.CertFile}, {"cluster.keyFile", c.Cluster.KeyFile}, {"cluster.caFile", c.Cluster.CAFile},
		{"gossip.keyFile", c.Gossip.KeyFile}, {"hsm.module", c.HSM.Module}, {"hsm.pinFile", c.HSM.PINFile}, {"audit.dir", c.Audit.Dir},
	} {
		f.check(filepath.IsAbs(p.path), p.name, "must be an absolute path; it is %q", p.path)
	}
	f.check(c.HSM.SyncDir == "" || filepath.IsAbs(c.HSM.SyncDir), "hsm.syncDir", "must be empty or an absolute path; it is %q", c.HSM.SyncDir)
	f.check(len(c.HSM.InitArgs) <= 4096 && !strings.ContainsRune(c.HSM.InitArgs, 0), "hsm.initArgs", "must have at most 4096 bytes and no zero byte")
	f.check(c.Login.TokenReviewerFile == "" || filepath.IsAbs(c.Login.TokenReviewerFile), "login.tokenReviewerFile", "must be empty or an absolute path; it is %q", c.Login.TokenReviewerFile)
	for _, one := range []struct{ name, path string }{
		{"cluster.joinFile", c.Cluster.JoinFile}, {"cluster.joinTokenFile", c.Cluster.JoinTokenFile}, {"gossip.seedsFile", c.Gossip.SeedsFile},
	} {
		f.check(one.path == "" || filepath.IsAbs(one.path), one.name, "must be empty or an absolute path; it is %q", one.path)
	}
	f.check(c.Node.PIDFile == "" || filepath.IsAbs(c.Node.PIDFile), "node.pidFile", "must be empty or an absolute path; it is %q", c.Node.PIDFile)
	for name := range c.HSM.Env {
		f.check(name != "" && !strings.ContainsAny(name, "=\x00"), "hsm.env", "%q cannot be the name of a variable", name)
	}
}

func (c *Config) addresses(f *faultList) {
	for _, a := range []struct{ name, listen, advertise string }{
		{"api", c.API.Listen, c.API.Advertise}, {"cluster", c.Cluster.Listen, c.Cluster.Advertise}, {"gossip", c.Gossip.Listen, c.Gossip.Advertise},
	} {
		if err := hostPort(a.listen); err != nil {
			f.add(a.name+".listen", "%v", err)
			continue
		}
		if err := hostPort(a.advertise); err != nil {
			f.add(a.name+".advertise", "%v", err)
			continue
		}
		f.check(reachable(a.advertise), a.name+".advertise", "%q is no address that others can reach; name this node's own address and port", a.advertise)
	}
	for i, address := range c.Cluster.Join {
		if err := hostPort(address); err != nil {
			f.add(fmt.Sprintf("cluster.join[%d]", i), "%v", err)
		}
	}
	for i, seed := range c.Gossip.Seeds {
		if err := hostPort(seed); err != nil {
			f.add(fmt.Sprintf("gossip.seeds[%d]", i), "%v", err)
		}
	}
}

func hostPort(s string) error {
	_, port, err := net.SplitHostPort(s)
	if err != nil {
		return fmt.Errorf("must be host:port; it is %q", s)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return fmt.Errorf("must end in a port from 1 to 65535; it is %q", s)
	}
	return nil
}

// reachable refuses what only makes sense to listen on.
func reachable(s string) bool {
	host, _, err := net.SplitHostPort(s)
	if err != nil || host == "" {
		return false
	}
	a, err := netip.ParseAddr(host)
	return err != nil || !a.IsUnspecified()
}

func (c *Config) members(f *faultList) {
	ids, addresses := map[string]bool{}, map[string]bool{}
	for i, m := range c.Cluster.InitialMembers {
		name := fmt.Sprintf("cluster.initialMembers[%d]", i)
		f.check(validNodeID(m.ID), name+".id", "must be a node id; it is %q", m.ID)
		f.check(!ids[m.ID], name+".id", "%q is there twice", m.ID)
		if err := hostPort(m.Address); err != nil {
			f.add(name+".address", "%v", err)
		}
		f.check(!addresses[m.Address], name+".address", "%q is there twice", m.Address)
		ids[m.ID], addresses[m.Address] = true, true
	}
	joins := len(c.Cluster.Join) > 0 || c.Cluster.JoinFile != ""
	f.check(!joins || len(ids) == 0, "cluster.join", "goes without cluster.initialMembers: a node either begins a cluster with others or joins one that runs")
	if len(ids) > 0 && c.Node.ID != "" {
		f.check(ids[c.Node.ID], "cluster.initialMembers", "does not have this node, %q", c.Node.ID)
	}
}

func (c *Config) bounds(f *faultList) {
	between := func(name string, value, low, high int64) {
		f.check(value >= low && value <= high, name, "must be between %d and %d; it is %d", low, high, value)
	}
	between("api.maxBodyBytes", c.API.MaxBodyBytes, 64<<10, 16<<20)
	between("api.maxValueBytes", int64(c.API.MaxValueBytes), 1, 1<<20)
	// A value travels in base64, with its path and tags.
	if need := int64(c.API.MaxValueBytes)/3*4 + 32<<10; c.API.MaxBodyBytes >= 64<<10 && c.API.MaxBodyBytes < need {
		f.add("api.maxBodyBytes", "a value of api.maxValueBytes (%d) does not fit; make it at least %d", c.API.MaxValueBytes, need)
	}
	for _, text := range c.HSM.AdmitTransportKeys {
		sum, err := hex.DecodeString(text)
		f.check(err == nil && len(sum) == 32, "hsm.admitTransportKeys", "must hold fingerprints of 64 hexadecimal digits, as strongroom hsm transport-key shows them; %.80q is none", text)
	}
	between("hsm.sessions", int64(c.HSM.Sessions), 1, 64)
	c.dialect(f)
	f.check(len(c.HSM.TokenLabel) >= 1 && len(c.HSM.TokenLabel) <= 32, "hsm.tokenLabel", "must have 1 to 32 bytes; it is %q", c.HSM.TokenLabel)
	f.check(slices.Contains([]string{"written", "synced", "quorum"}, c.Audit.Durability), "audit.durability", "must be written, synced or quorum; it is %q", c.Audit.Durability)
	between("raft.minFreeBytes", c.Raft.MinFreeBytes, 0, 1<<40)
	between("audit.segmentBytes", c.Audit.SegmentBytes, 1<<20, 1<<30)
	between("audit.minFreeBytes", c.Audit.MinFreeBytes, 0, 1<<40)
	if _, err := c.Audit.KnownWitnesses(); err != nil {
		f.add("audit.witnesses", "%v", err)
	}
	between("audit.checkpointEvents", c.Audit.CheckpointEvents, 1, 1_000_000)
	f.check(c.Audit.CheckpointEvery.D() >= time.Second && c.Audit.CheckpointEvery.D() <= time.Hour, "audit.checkpointEvery", "must be 1s to 1h; it is %s", c.Audit.CheckpointEvery)
	f.check(c.Audit.RetainFor == 0 || c.Audit.RetainFor.D() >= time.Hour, "audit.retainFor", "must be at least 1h, or 0s to keep all; it is %s", c.Audit.RetainFor)
	f.check(c.Audit.RetainBytes == 0 || c.Audit.RetainBytes >= 2*c.Audit.SegmentBytes, "audit.retainBytes", "must be at least twice audit.segmentBytes, or 0 for no bound; it is %d", c.Audit.RetainBytes)
	between("raft.snapshotThreshold", int64(min(c.Raft.SnapshotThreshold, 1<<62)), 16, 10_000_000)
}

// dialect checks what the settings and the preset make together.
func (c *Config) dialect(f *faultList) {
	f.check(slices.Contains(dialect.Vendors(), c.HSM.Vendor), "hsm.vendor", "must be one of %s; it is %q", strings.Join(dialect.Vendors(), ", "), c.HSM.Vendor)
	for _, one := range c.HSM.Dialect().Faults(c.HSM.Sessions) {
		f.add(one.Setting, "%s", one.Text)
	}
}

func (c *Config) timing(f *faultList) {
	between := func(name string, value Duration, low, high time.Duration) {
		f.check(value.D() >= low && value.D() <= high, name, "must be between %v and %v; it is %v", Duration(low), Duration(high), value)
	}
	between("api.timeout", c.API.Timeout, time.Second, 2*time.Minute)
	between("cluster.maxClockOffset", c.Cluster.MaxClockOffset, 100*time.Millisecond, time.Minute)
	between("snapshots.every", c.Snapshots.Every, time.Minute, 30*24*time.Hour)
	between("kms.cacheFor", c.KMS.CacheFor, time.Second, time.Hour)
	f.check(0 <= c.KMS.CachedDataKeys && c.KMS.CachedDataKeys <= 1_000_000, "kms.cachedDataKeys", "must be 0 to 1000000; it is %d", c.KMS.CachedDataKeys)
	between("hsm.operationTimeout", c.HSM.OperationTimeout, 50*time.Millisecond, time.Minute)
	between("hsm.probeInterval", c.HSM.ProbeInterval, 100*time.Millisecond, time.Minute)
	r := c.Raft
	between("raft.heartbeat", r.Heartbeat, 20*time.Millisecond, time.Minute)
	between("raft.lease", r.Lease, 5*time.Millisecond, time.Minute)
	between("raft.commit", r.Commit, time.Millisecond, time.Second)
	between("raft.stallMax", r.StallMax, 100*time.Millisecond, time.Minute)
	between("raft.stallFatal", r.StallFatal, time.Second, 10*time.Minute)
	f.check(r.StallFatal >= r.StallMax, "raft.stallFatal", "must be at least raft.stallMax (%v); it is %v", r.StallMax, r.StallFatal)
	between("raft.snapshotInterval", r.SnapshotInterval, time.Second, 24*time.Hour)
	// A lease that outlives the followers' patience would let two nodes
	// believe that they lead.
	f.check(r.Heartbeat >= 2*r.Lease, "raft.heartbeat", "must be at least twice raft.lease (%v); it is %v", r.Lease, r.Heartbeat)
	f.check(r.Election >= r.Heartbeat, "raft.election", "must be at least raft.heartbeat (%v); it is %v", r.Heartbeat, r.Election)
}

// namedFile is a file that a setting names.
type namedFile struct {
	name, path string
	secret     bool
}

// CheckFiles looks at every file that c names: it must be there, and one
// that holds a secret must be a regular file that only its owner may read.
// The error lists all faults, one a line.
func (c *Config) CheckFiles() error {
	var f faultList
	for _, one := range append([]namedFile{
		{"api.certFile", c.API.CertFile, false}, {"api.keyFile", c.API.KeyFile, true},
		{"cluster.certFile", c.Cluster.CertFile, false}, {"cluster.keyFile", c.Cluster.KeyFile, true},
		{"cluster.caFile", c.Cluster.CAFile, false}, {"gossip.keyFile", c.Gossip.KeyFile, true},
		{"hsm.module", c.HSM.Module, false}, {"hsm.pinFile", c.HSM.PINFile, true},
	}, append(c.sinkFiles(), c.Snapshots.files()...)...) {
		if err := checkFile(one.path, one.secret); err != nil {
			f.add(one.name, "%v", err)
		}
	}
	if len(f) > 0 {
		return errors.New("  " + strings.Join(f, "\n  "))
	}
	return nil
}

func checkFile(path string, secret bool) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%s is not a regular file", path)
	}
	if !secret {
		return nil
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return fmt.Errorf("%s holds a secret and its mode is %04o, so others may read or change it; run: chmod 600 %s", path, mode, path)
	}
	return checkOwner(path, info, os.Geteuid())
}

// checkOwner: whoever owns a file can change its mode at any time. Root may,
// whatever the mode says.
func checkOwner(path string, info os.FileInfo, us int) error {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return fmt.Errorf("%s: its owner cannot be told", path)
	}
	if owner := int(stat.Uid); owner != us && owner != 0 {
		return fmt.Errorf("%s holds a secret and belongs to user %d, who can change it; run: chown %d %s", path, owner, us, path)
	}
	return nil
}

// ReadSecret reads a file that holds a secret, at most limit bytes, refusing
// one that others could read.
func ReadSecret(path string, limit int) ([]byte, error) {
	if err := checkFile(path, true); err != nil {
		return nil, err
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	if len(raw) > limit {
		return nil, fmt.Errorf("%s has %d bytes; at most %d are expected", path, len(raw), limit)
	}
	return raw, nil
}
