// Package config reads the one configuration file of a node. It is strict:
// what it does not know it refuses, and it tells all faults at once, each
// with the name of the setting and the way out. Secrets are in files of their
// own, named here, that nobody else may read.
package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/strongroom/strongroom/internal/checkpoint"
	"github.com/strongroom/strongroom/internal/dialect"
	"github.com/strongroom/strongroom/internal/origin"
)

// Config is the whole file. The tags are the single source of names,
// defaults and descriptions: `strongroom config defaults` and
// docs/configuration.md are made from them.
type Config struct {
	Node      Node      `yaml:"node" doc:"This node."`
	API       API       `yaml:"api" doc:"The HTTPS API that clients use."`
	Cluster   Cluster   `yaml:"cluster" doc:"The cluster, and the mutual TLS link between its nodes."`
	Gossip    Gossip    `yaml:"gossip" doc:"Encrypted gossip about who is alive. It gives hints and never changes the membership."`
	HSM       HSM       `yaml:"hsm" doc:"The PKCS#11 token that holds the root key. The module runs in a child process."`
	KMS       KMS       `yaml:"kms" doc:"Data keys in memory."`
	Audit     Audit     `yaml:"audit" doc:"The audit trail."`
	Snapshots Snapshots `yaml:"snapshots" doc:"Backups that this node makes by itself. See backup.md."`
	Generate  Generate  `yaml:"generate" doc:"Values that the server generates."`
	Raft      Raft      `yaml:"raft" doc:"Consensus. The defaults are for one data centre; all nodes must have the same."`
	Rotation  Rotation  `yaml:"rotation" doc:"Where rotations of secrets may connect to. Nothing is allowed that is not listed; all nodes should have the same."`
	Login     Login     `yaml:"login" doc:"Logins by trusts."`
	Log       Log       `yaml:"log" doc:"The log on standard error. It never holds a value, a token or a PIN."`
}

// Node names this node and its folder.
type Node struct {
	ID      string `yaml:"id" default:"" doc:"Name of this node, once and for ever: 1 to 63 of a-z 0-9 and -. It is also in the node's certificate. Required."`
	DataDir string `yaml:"dataDir" default:"/var/lib/strongroom" doc:"Folder of the replicated log and snapshots, sealed by this node's HSM. No other node may use it."`
	PIDFile string `yaml:"pidFile" default:"" doc:"File for the number of the server's process, for as long as it runs. Empty: none."`
}

// API configures the public listener.
type API struct {
	Listen         string   `yaml:"listen" default:"0.0.0.0:7400" doc:"Address and port to listen on."`
	Advertise      string   `yaml:"advertise" default:"" doc:"Address and port that clients reach this node by. Empty: as listen, which must then name one address."`
	CertFile       string   `yaml:"certFile" default:"/etc/strongroom/api.pem" doc:"Server certificate (PEM, with its chain). Read again on SIGHUP and when it changes."`
	KeyFile        string   `yaml:"keyFile" default:"/etc/strongroom/api-key.pem" doc:"Its private key (PEM), mode 0600."`
	AllowedHosts   []string `yaml:"allowedHosts" default:"[]" doc:"Names that the Host header may have, without port. Empty: any."`
	TrustedProxies []string `yaml:"trustedProxies" default:"[]" doc:"CIDR ranges of the proxies and load balancers in front of the API. What they say about a client's address is believed, and nobody else's word is. All nodes should have the same. See limits.md."`
	ProxyProtocol  bool     `yaml:"proxyProtocol" default:"false" doc:"Connections from api.trustedProxies must begin with a header of the PROXY protocol, version 2, before TLS; one without it is closed. Connections from elsewhere must not."`
	MaxBodyBytes   int64    `yaml:"maxBodyBytes" default:"2097152" doc:"Largest request body, 64 KiB to 16 MiB."`
	MaxValueBytes  int      `yaml:"maxValueBytes" default:"65536" doc:"Largest value of a secret, 1 byte to 1 MiB. All nodes must have the same."`
	Timeout        Duration `yaml:"timeout" default:"15s" doc:"Longest time of one operation, waiting for a leader included."`
	Console        bool     `yaml:"console" default:"true" doc:"Serve the web console below /console/."`
}

// Cluster configures the node link and names the first members.
type Cluster struct {
	ID             string   `yaml:"id" default:"" doc:"Id of the cluster, a UUID in lower case, the same on all nodes (uuidgen makes one). Required."`
	Listen         string   `yaml:"listen" default:"0.0.0.0:7401" doc:"Address and port of the node link."`
	Advertise      string   `yaml:"advertise" default:"" doc:"Address and port that other nodes reach this node by. Empty: as listen, which must then name one address."`
	CertFile       string   `yaml:"certFile" default:"/etc/strongroom/node.pem" doc:"Certificate of this node, made by strongroom tls issue-node. Read again on SIGHUP and when it changes."`
	KeyFile        string   `yaml:"keyFile" default:"/etc/strongroom/node-key.pem" doc:"Its private key (PEM), mode 0600."`
	CAFile         string   `yaml:"caFile" default:"/etc/strongroom/cluster-ca.pem" doc:"Certificate authority of the node link, or several while one is replaced by another. Use one that signs nothing else. Read again on SIGHUP and when it changes. See cluster.md."`
	InitialMembers []Member `yaml:"initialMembers" default:"[]" doc:"The first members, each with id and address (cluster.advertise of that node), the same on all nodes. strongroom init starts the cluster with them; a node that has not heard from the cluster yet listens to them only. Later changes of the membership are not made here."`
	Join           []string `yaml:"join" default:"[]" doc:"For a node that joins a running cluster, instead of cluster.initialMembers: addresses of the node links of members, host:port, where the host may be a DNS name. One that answers is enough. See cluster.md."`
	JoinFile       string   `yaml:"joinFile" default:"" doc:"File with more such addresses, one a line, read again at each attempt. Empty: none."`
	JoinTokenFile  string   `yaml:"joinTokenFile" default:"" doc:"File with the one-time join token, mode 0600, for a node that was not announced with cluster add. It is read only until the node is admitted, and can be deleted then. Empty: none."`
	MaxClockOffset Duration `yaml:"maxClockOffset" default:"5s" doc:"How far the clock of this node may be off, as told by the other members and the replicated state, before it refuses, as the leader, what access policies and conditions restrict to times; 100ms to 1m. All nodes should have the same."`
	FollowerReads  bool     `yaml:"followerReads" default:"true" doc:"While this node follows, it serves reads by itself, with its own HSM, by what the leader tells it; false hands every request to the leader. Answers are equally fresh."`
}

// Member is one of the first members.
type Member struct {
	ID      string `yaml:"id"`
	Address string `yaml:"address"`
}

// Gossip configures memberlist.
type Gossip struct {
	Listen    string   `yaml:"listen" default:"0.0.0.0:7402" doc:"Address and port, UDP and TCP."`
	Advertise string   `yaml:"advertise" default:"" doc:"Address and port that other nodes reach this node by. Empty: as listen, which must then name one address."`
	KeyFile   string   `yaml:"keyFile" default:"/etc/strongroom/gossip.key" doc:"File with the gossip keys, one a line, 32 bytes in base64 each, mode 0600; the first is sent with, all are taken. strongroom tls gossip-key makes it. Read again on SIGHUP and when it changes. All nodes should have the same. See cluster.md."`
	Seeds     []string `yaml:"seeds" default:"[]" doc:"Gossip addresses of other nodes, host:port, where the host may be a DNS name; asked whenever this node hears from fewer members than there are."`
	SeedsFile string   `yaml:"seedsFile" default:"" doc:"File with more such addresses, one a line, read again each time. Empty: none."`
}

// HSM configures the token.
type HSM struct {
	Module             string            `yaml:"module" default:"" doc:"Absolute path of the PKCS#11 library. Required."`
	InitArgs           string            `yaml:"initArgs" default:"" doc:"Text for the module's C_Initialize (pReserved), for modules that want one, such as NSS: configdir='sql:/var/lib/nss'. No secret belongs in it. Empty: none."`
	TokenLabel         string            `yaml:"tokenLabel" default:"strongroom" doc:"Label of the token."`
	TokenSerial        string            `yaml:"tokenSerial" default:"" doc:"Serial number of the token, when the label alone is not enough."`
	PINFile            string            `yaml:"pinFile" default:"/etc/strongroom/hsm-pin" doc:"File with the user PIN, mode 0600 or 0400. Only the HSM worker reads it."`
	Env                map[string]string `yaml:"env" default:"{}" doc:"The whole environment of the HSM worker, such as SOFTHSM2_CONF. Nothing is inherited."`
	Sessions           int               `yaml:"sessions" default:"2" doc:"Sessions of the token that work at a time, 1 to 64. More do not make software tokens faster."`
	OperationTimeout   Duration          `yaml:"operationTimeout" default:"1500ms" doc:"Longest time of one operation of the HSM. After it the worker is replaced."`
	ProbeInterval      Duration          `yaml:"probeInterval" default:"1s" doc:"How often the HSM is probed with a real seal and open."`
	AdmitTransportKeys []string          `yaml:"admitTransportKeys" default:"[]" doc:"Fingerprints (64 hexadecimal digits) of transport keys of HSMs that hold no root key yet and may receive one in a rotation that this node leads. Compare each with strongroom hsm transport-key on its own node."`
	SyncDir            string            `yaml:"syncDir" default:"" doc:"Folder to sync to disk after keys were made in the token. SoftHSM needs it (its token folder); hardware does not."`
	Vendor             string            `yaml:"vendor" default:"generic" doc:"Preset of the four settings below, from what the vendor publishes: generic, cloudhsm or luna-fips. A setting that is made here wins over the preset. The presets were tried against a module that plays these vendors, not against their hardware."`
	IVMode             string            `yaml:"ivMode" default:"" doc:"Who makes the IV of AES-GCM, and where it is found: auto (the probe finds out), caller, writeback, appended or prepended. Anything but auto is held against what the module does. Empty: as hsm.vendor says, which is auto for generic."`
	Mechanisms         map[string]Number `yaml:"mechanisms" default:"{}" doc:"Numbers of mechanisms, by meaning, where the module has numbers of its own: {rfc3394: 0x80002109}. What is not here has the number of the standard."`
	LoginPerSession    bool              `yaml:"loginPerSession" default:"false" doc:"The module wants a log-in in each session, not one for the process. The HSM worker then reads hsm.pinFile again for each new session."`
	MaxSessions        int               `yaml:"maxSessions" default:"0" doc:"Sessions that the module lets one process have. A node needs hsm.sessions and two more. 0: as hsm.vendor says, or not known; what the token itself says counts too."`
}

// Dialect answers how the module is to be spoken to: what the settings say,
// over the preset of the vendor.
func (h HSM) Dialect() dialect.Dialect {
	own := dialect.Dialect{IVMode: h.IVMode, LoginPerSession: h.LoginPerSession, MaxSessions: h.MaxSessions, Mechanisms: map[string]uint64{}}
	for name, number := range h.Mechanisms {
		own.Mechanisms[name] = uint64(number)
	}
	preset, _ := dialect.Of(h.Vendor) // an unknown one is refused by faults
	return own.Over(preset)
}

// Proxies answers the proxies whose word about a client's address counts.
func (c *Config) Proxies() (origin.Proxies, error) {
	return origin.NewProxies(c.API.TrustedProxies, c.API.ProxyProtocol)
}

// KMS bounds the data keys that a node keeps open.
type KMS struct {
	CachedDataKeys int      `yaml:"cachedDataKeys" default:"10000" doc:"Data keys of secrets that were read which are kept in memory, at most, so that the next read of the same version asks no HSM; its events say cached. 0: none, and every read is a call to the HSM. A path rule with hsmEachRead sets them aside for what is below it."`
	CacheFor       Duration `yaml:"cacheFor" default:"1m" doc:"How long a data key is kept, from the call to the HSM on, 1s to 1h. It is wiped earlier when its version is destroyed or its key disabled, and while the HSM does not work."`
}

// Snapshots configures the backups of one node.
type Snapshots struct {
	Dir               string   `yaml:"dir" default:"" doc:"Folder that this node saves its state to, encrypted and read back each time; put it on another disk, or have it copied elsewhere. Empty: none."`
	Every             Duration `yaml:"every" default:"1h" doc:"How often it does, 1m to 720h."`
	Keep              int      `yaml:"keep" default:"48" doc:"How many of this node's saved snapshots stay, 1 to 10000; older ones are removed. 0, with snapshots.s3Bucket only: none is removed by the node, and a rule of the bucket does it."`
	S3Bucket          string   `yaml:"s3Bucket" default:"" doc:"Bucket of an S3-compatible object store that this node saves its state to, instead of snapshots.dir. Without both this node saves none."`
	S3Endpoint        string   `yaml:"s3Endpoint" default:"" doc:"The store: https://host, with :port if it is not 443; http only on this machine. Required with snapshots.s3Bucket. No proxy is used."`
	S3Region          string   `yaml:"s3Region" default:"us-east-1" doc:"Region that requests are signed for."`
	S3Prefix          string   `yaml:"s3Prefix" default:"" doc:"What stands before the names in the bucket, without a slash at either end. Ids of cluster and node follow it, so several may share a bucket."`
	S3PathStyle       bool     `yaml:"s3PathStyle" default:"false" doc:"The bucket stands in the path of the URL, as most stores want that are not Amazon's, and not before the host."`
	S3CAFile          string   `yaml:"s3CAFile" default:"" doc:"Certificate authorities of the store (PEM). Empty: those of the system."`
	S3Credentials     string   `yaml:"s3Credentials" default:"file" doc:"Where the credentials are: file (snapshots.s3CredentialsFile), environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN) or instance (the role of an EC2 instance, by IMDSv2)."`
	S3CredentialsFile string   `yaml:"s3CredentialsFile" default:"" doc:"File with the lines aws_access_key_id = …, aws_secret_access_key = … and, if there is one, aws_session_token = …; mode 0600. Read again each minute of use."`
}

// KnownWitnesses answers those who may cosign checkpoints.
func (a *Audit) KnownWitnesses() ([]checkpoint.Witness, error) {
	if len(a.Witnesses) > maxWitnesses {
		return nil, fmt.Errorf("must be %d at most; there are %d", maxWitnesses, len(a.Witnesses))
	}
	var out []checkpoint.Witness
	names := map[string]bool{}
	for _, text := range a.Witnesses {
		w, err := checkpoint.ParseWitness(text)
		if err != nil {
			return nil, fmt.Errorf("%q %w", text, err)
		}
		if names[w.Name()] {
			return nil, fmt.Errorf("%s is there twice; a witness has one key", w.Name())
		}
		names[w.Name()] = true
		out = append(out, w)
	}
	return out, nil
}

const maxWitnesses = 16

// Generate configures generated values.
type Generate struct {
	HSMRandom bool `yaml:"hsmRandom" default:"false" doc:"Generated values come from the HSM's random numbers and this machine's, mixed so that they are as good as the better of the two; while the HSM is not there, nothing is generated. RSA keys are made from this machine's alone. All nodes should have the same."`
}

// Audit configures the trail.
type Audit struct {
	Dir          string `yaml:"dir" default:"" doc:"Folder of the trail. Empty: audit below node.dataDir."`
	Durability   string `yaml:"durability" default:"written" doc:"When a request may be answered: written (the event is with the operating system: survives the process, not a power cut), synced (it is on the disk) or quorum (it is on the disks of a majority of the voting members: a node that burns down loses nothing)."`
	SegmentBytes int64  `yaml:"segmentBytes" default:"67108864" doc:"Size at which a new file is begun, 1 MiB to 1 GiB."`
	MinFreeBytes int64  `yaml:"minFreeBytes" default:"67108864" doc:"Free space below which the trail refuses events, and so the node requests."`
	Compress     bool   `yaml:"compress" default:"true" doc:"Files that are full are compressed (zstd), to about a quarter."`

	RetainFor   Duration `yaml:"retainFor" default:"0s" doc:"Files whose events are all older than this are removed once a checkpoint is over them and every sink has taken them; what is left verifies as before. At least 1h; 0s keeps all."`
	RetainBytes int64    `yaml:"retainBytes" default:"0" doc:"The oldest files are removed, on the same conditions, while all of a chain take more than this, of at least twice segmentBytes; 0 sets no bound."`

	CheckpointEvery  Duration `yaml:"checkpointEvery" default:"1m" doc:"After so long a chain that has grown is signed by the cluster's key in the HSM, 1s to 1h."`
	CheckpointEvents int64    `yaml:"checkpointEvents" default:"1000" doc:"After so many events it is signed at once, 1 to 1000000."`
	Witnesses        []string `yaml:"witnesses" default:"[]" doc:"Who may cosign checkpoints for this cluster: NAME+KEY of each, as strongroom audit witness prints it, 16 at most. What others hand in is refused. All nodes should have the same."`
	Sinks            []Sink   `yaml:"sinks" default:"[]" doc:"Where this node hands on the events of its trail; what an entry may hold is listed below. A sink that does not work delays nobody and loses nothing."`
}

// Raft configures consensus.
type Raft struct {
	Heartbeat         Duration `yaml:"heartbeat" default:"300ms" doc:"Silence of the leader after which a follower doubts it. At least twice lease."`
	Election          Duration `yaml:"election" default:"300ms" doc:"Time of one election. At least heartbeat."`
	Lease             Duration `yaml:"lease" default:"140ms" doc:"A leader that has not heard from a majority for so long steps down."`
	Commit            Duration `yaml:"commit" default:"10ms" doc:"Longest time until an idle leader tells followers what is committed."`
	StallMax          Duration `yaml:"stallMax" default:"2s" doc:"A node whose disk has not taken a log write for so long falls silent, so that another can lead."`
	StallFatal        Duration `yaml:"stallFatal" default:"30s" doc:"A node whose disk has not taken a log write for so long ends itself. At least stallMax."`
	MinFreeBytes      int64    `yaml:"minFreeBytes" default:"67108864" doc:"Free space in node.dataDir below which this node proposes no writes and hands leadership over; below half of it takes no entries of a leader's. 0: no bound."`
	SnapshotThreshold uint64   `yaml:"snapshotThreshold" default:"8192" doc:"Log entries after which a snapshot is made."`
	SnapshotInterval  Duration `yaml:"snapshotInterval" default:"2m" doc:"How often the threshold is looked at."`
}

// Rotation lists where rotations of secrets may go.
type Rotation struct {
	WebhookAllow  []string `yaml:"webhookAllow" default:"[]" doc:"Receivers of webhooks: hooks.example.com, *.hooks.example.com or an address, each with :port unless it is 443. Addresses of the machine itself only if listed as such; link-local and metadata addresses never, whatever a name resolves to."`
	DatabaseAllow []string `yaml:"databaseAllow" default:"[]" doc:"Database servers whose passwords are rotated, written in the same way; the usual port is that of the kind."`
}

// Login is what logins need of this server.
type Login struct {
	TokenReviewerFile string `yaml:"tokenReviewerFile" default:"" doc:"File with the token by which this node asks Kubernetes to review others', for trusts whose tokenReviewer is file. Read again each time. Empty: none."`
}

// Log configures slog.
type Log struct {
	Level  string `yaml:"level" default:"info" doc:"debug, info, warn or error."`
	Format string `yaml:"format" default:"text" doc:"text or json."`
}

// Duration is a time.Duration written as "300ms" or "2m".
type Duration time.Duration

// D is the standard library's form.
func (d Duration) D() time.Duration { return time.Duration(d) }

// UnmarshalYAML refuses bare numbers: their unit would be a guess.
func (d *Duration) UnmarshalYAML(n *yaml.Node) error {
	parsed, err := time.ParseDuration(n.Value)
	if err != nil || n.Kind != yaml.ScalarNode {
		return fmt.Errorf("line %d: %q is not a duration such as \"300ms\" or \"2m\"", n.Line, n.Value)
	}
	*d = Duration(parsed)
	return nil
}

// MarshalYAML writes the form that UnmarshalYAML reads.
func (d Duration) MarshalYAML() (any, error) { return d.String(), nil }

// String is the short form: "2m", not "2m0s".
func (d Duration) String() string {
	s := time.Duration(d).String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// Default is the configuration of an empty file. It is not valid: a few
// settings have no default that could be right.
func Default() Config {
	var c Config
	for _, s := range settings(reflect.ValueOf(&c).Elem()) {
		if err := yaml.Unmarshal([]byte(s.Default), s.field.Addr().Interface()); err != nil {
			panic("config: default of " + s.Name + ": " + err.Error()) // a tag of ours; a test reads them all
		}
	}
	return c
}

// Load reads path, fills in the defaults and validates. The error lists
// every fault found, one a line. It does not look at the files that the
// configuration names; CheckFiles does.
func Load(path string) (Config, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return Config{}, fmt.Errorf("configuration: %w", err)
	}
	c, err := Parse(raw)
	if err != nil {
		return Config{}, fmt.Errorf("configuration %s:\n%w", path, err)
	}
	return c, nil
}

// Parse is Load for the file's content.
func Parse(raw []byte) (Config, error) {
	c := Default()
	d := yaml.NewDecoder(bytes.NewReader(raw))
	d.KnownFields(true)
	if err := d.Decode(&c); err != nil && !errors.Is(err, io.EOF) {
		return Config{}, explain(err)
	}
	if err := d.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return Config{}, errors.New("  there is more than one YAML document; keep the first and remove the lines from --- on")
	}
	c.derive()
	if faults := c.faults(); len(faults) > 0 {
		return Config{}, errors.New("  " + strings.Join(faults, "\n  "))
	}
	return c, nil
}

// explain puts yaml's message in our words: the type names of this package
// say nothing to the reader.
func explain(err error) error {
	var typed *yaml.TypeError
	if !errors.As(err, &typed) {
		return fmt.Errorf("  %w", err)
	}
	lines := make([]string, 0, len(typed.Errors))
	for _, e := range typed.Errors {
		if before, section, ok := strings.Cut(e, " not found in type config."); ok {
			e = before + " is not a setting of " + sectionName(section) + " (strongroom config defaults shows them all)"
		}
		lines = append(lines, "  "+e)
	}
	return errors.New(strings.Join(lines, "\n"))
}

// sectionName answers what a type of this package is called in the file.
func sectionName(typeName string) string {
	for i := range reflect.TypeFor[Config]().NumField() {
		if f := reflect.TypeFor[Config]().Field(i); f.Type.Name() == typeName {
			return f.Tag.Get("yaml")
		}
	}
	return strings.ToLower(typeName[:1]) + typeName[1:]
}

// derive fills in what defaults to another setting.
func (c *Config) derive() {
	for _, a := range []struct{ listen, advertise *string }{
		{&c.API.Listen, &c.API.Advertise}, {&c.Cluster.Listen, &c.Cluster.Advertise}, {&c.Gossip.Listen, &c.Gossip.Advertise},
	} {
		if *a.advertise == "" {
			*a.advertise = *a.listen
		}
	}
	if c.Audit.Dir == "" && c.Node.DataDir != "" {
		c.Audit.Dir = strings.TrimRight(c.Node.DataDir, "/") + "/audit"
	}
	for i := range c.Audit.Sinks {
		c.Audit.Sinks[i].defaults()
	}
}
