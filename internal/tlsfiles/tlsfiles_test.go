package tlsfiles

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/internal/gossipring"
	"github.com/strongroom/strongroom/internal/pki"
)

const cluster = "5a0f1f0e-6d2a-4b5b-9f0a-0d8f4c1f5e11"

// place is the files of node1, and what reads them.
type place struct {
	t        *testing.T
	cfg      Config
	registry *prometheus.Registry
	now      time.Time
	log      *lockedBuffer
	set      *Set
	old      pki.Pair // authority
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

// take answers what was logged since the last call.
func (l *lockedBuffer) take() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	defer l.b.Reset()
	return l.b.String()
}

func newPlace(t *testing.T) *place {
	t.Helper()
	dir := t.TempDir()
	in := func(name string) string { return filepath.Join(dir, name) }
	p := &place{t: t, registry: prometheus.NewRegistry(), now: time.Now(), log: &lockedBuffer{}}
	p.cfg = Config{
		APICert: in("api.pem"), APIKey: in("api-key.pem"), LinkCert: in("node.pem"), LinkKey: in("node-key.pem"),
		Authorities: in("cluster-ca.pem"), GossipKeys: in("gossip.key"), NodeURI: pki.NodeURI(cluster, "node1").String(),
		Logger: slog.New(slog.NewTextHandler(p.log, nil)), Registerer: p.registry, Now: func() time.Time { return p.now },
	}
	p.old = p.authority("old")
	p.trust(p.old)
	p.issue(p.old, "node1")
	p.issueAPI()
	p.gossip(gossipring.Ring{gossipring.Generate()})
	var err error
	p.set, err = Open(p.cfg)
	require.NoError(t, err)
	p.log.take()
	return p
}

func (p *place) authority(name string) pki.Pair {
	ca, err := pki.CreateCA(name, p.now)
	require.NoError(p.t, err)
	return ca
}

func (p *place) write(path, text string) {
	require.NoError(p.t, os.WriteFile(path, []byte(text), 0o600))
}

func (p *place) trust(cas ...pki.Pair) {
	text := ""
	for _, ca := range cas {
		text += string(ca.Cert)
	}
	p.write(p.cfg.Authorities, text)
}

func (p *place) issue(ca pki.Pair, node string) {
	pair, err := pki.IssueNode(ca, cluster, node, p.now)
	require.NoError(p.t, err)
	require.NoError(p.t, pair.Replace(p.cfg.LinkCert, p.cfg.LinkKey))
}

func (p *place) issueAPI() {
	pair, err := pki.IssueServer(p.authority("api"), []string{"localhost"}, p.now)
	require.NoError(p.t, err)
	require.NoError(p.t, pair.Replace(p.cfg.APICert, p.cfg.APIKey))
}

func (p *place) gossip(r gossipring.Ring) { p.write(p.cfg.GossipKeys, string(r.Format())) }

// metric answers the value of a gauge or counter by its labels.
func (p *place) metric(name string, labels ...string) float64 {
	p.t.Helper()
	families, err := p.registry.Gather()
	require.NoError(p.t, err)
	for _, f := range families {
		for _, m := range f.GetMetric() {
			var got []string
			for _, l := range m.GetLabel() {
				got = append(got, l.GetValue())
			}
			if f.GetName() == name && strings.Join(got, " ") == strings.Join(labels, " ") {
				return m.GetGauge().GetValue() + m.GetCounter().GetValue()
			}
		}
	}
	require.Fail(p.t, "no metric "+name, "%v", labels)
	return 0
}

func (p *place) fingerprints() string {
	d := p.set.Describe()
	out := d.API.Fingerprint + " " + d.Link.Fingerprint + " " + strings.Join(d.GossipKeys, ",")
	for _, a := range d.Authorities {
		out += " " + a.Fingerprint
	}
	return out
}

func TestEverythingIsReplacedInThreeSteps(t *testing.T) {
	p := newPlace(t)
	require.Equal(t, Change{}, p.set.Reload(), "nothing has changed")
	fresh := p.authority("new")
	first := p.set.GossipKeys()[0]
	ring, err := p.set.GossipKeys().Add(gossipring.Generate())
	require.NoError(t, err)

	p.trust(p.old, fresh)
	p.gossip(ring)
	pool := p.set.Pool()
	require.Equal(t, Change{Authorities: true, Gossip: true}, p.set.Reload())
	require.NotSame(t, pool, p.set.Pool())
	pool = p.set.Pool()
	require.Equal(t, gossipring.Fingerprint(first), p.set.Describe().GossipKeys[0])

	p.issue(fresh, "node1")
	p.issueAPI()
	ring, err = ring.Use(gossipring.Fingerprint(ring[1]))
	require.NoError(t, err)
	p.gossip(ring)
	require.Equal(t, Change{API: true, Link: true, Gossip: true}, p.set.Reload())
	require.Same(t, pool, p.set.Pool(), "the pool is the same until others are trusted")
	require.Equal(t, pki.Fingerprint(p.set.Authorities().Certificates()[1]), p.set.Describe().Link.Authority)

	p.trust(fresh)
	p.gossip(ring[:1])
	require.Equal(t, Change{Authorities: true, Gossip: true}, p.set.Reload())
	require.Len(t, p.set.Describe().Authorities, 1)
	require.Len(t, p.set.Describe().GossipKeys, 1)
	require.NotContains(t, p.log.take(), strings.TrimSpace(string(ring[:1].Format())), "a key is not logged")
}

// Whatever is wrong with a file, what was in use stays, and the node says which
// file it is and why.
func TestWhatCannotBeUsedDoesNotComeIntoUse(t *testing.T) {
	for name, c := range map[string]struct {
		of, says string
		spoil    func(p *place)
	}{
		"no bundle":               {Authorities, "no such file", func(p *place) { require.NoError(p.t, os.Remove(p.cfg.Authorities)) }},
		"half a bundle":           {Authorities, "its end is missing", func(p *place) { p.write(p.cfg.Authorities, string(p.old.Cert)+string(p.authority("new").Cert)[:300]) }},
		"a bundle without ours":   {Authorities, "lacks the authority of this node's certificate", func(p *place) { p.trust(p.authority("new")) }},
		"half a renewal":          {Link, "private key does not match", func(p *place) { p.half() }},
		"of another node":         {Link, "is not of strongroom://" + cluster + "/node/node1", func(p *place) { p.issue(p.old, "node2") }},
		"of an unknown authority": {Link, "not signed by an authority of the bundle", func(p *place) { p.issue(p.authority("new"), "node1") }},
		"expired": {Link, "has expired", func(p *place) {
			p.now = p.now.Add(-2 * pki.LeafLifetime)
			old := p.authority("x")
			p.issue(old, "node1")
			p.now = p.now.Add(2 * pki.LeafLifetime)
		}},
		"a key that others read":          {Link, "others may read or change it", func(p *place) { require.NoError(p.t, os.Chmod(p.cfg.LinkKey, 0o644)) }},
		"an API certificate that is none": {API, "api.pem", func(p *place) { p.write(p.cfg.APICert, "none") }},
		"an API certificate of tomorrow": {API, "is valid from", func(p *place) {
			p.now = p.now.Add(24 * time.Hour)
			p.issueAPI()
			p.now = p.now.Add(-24 * time.Hour)
		}},
		"an empty ring": {Gossip, "holds no key", func(p *place) { p.write(p.cfg.GossipKeys, "") }},
		"a ring cut short": {Gossip, "key 2 is not 32 bytes", func(p *place) {
			p.write(p.cfg.GossipKeys, string(p.set.GossipKeys().Format())+"c2hvcnQ=")
		}},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPlace(t)
			before := p.fingerprints()
			c.spoil(p)
			require.Equal(t, Change{}, p.set.Reload())
			require.Equal(t, before, p.fingerprints())
			require.Contains(t, p.set.Failing()[c.of], c.says)
			require.Len(t, p.set.Failing(), 1)
			log := p.log.take()
			require.Contains(t, log, "this node goes on with what it had")
			require.Contains(t, log, "file="+map[string]string{API: p.cfg.APICert, Link: p.cfg.LinkCert, Authorities: p.cfg.Authorities, Gossip: p.cfg.GossipKeys}[c.of])
			require.EqualValues(t, 1, p.metric("strongroom_tls_file_refused", c.of))
			require.EqualValues(t, 1, p.metric("strongroom_tls_reloads_total", c.of, "failed"))

			require.Equal(t, Change{}, p.set.read(false))
			require.Empty(t, p.log.take(), "a look that nobody asked for tells the same only once")

			p.trust(p.old)
			p.issue(p.old, "node1")
			p.issueAPI()
			p.gossip(p.set.GossipKeys())
			require.True(t, p.set.read(false).Link)
			require.Empty(t, p.set.Failing())
			require.Zero(t, p.metric("strongroom_tls_file_refused", c.of))
			require.Contains(t, p.log.take(), "can be used again")
		})
	}
}

// half leaves a certificate without its key.
func (p *place) half() {
	key, err := os.ReadFile(p.cfg.LinkKey)
	require.NoError(p.t, err)
	p.issue(p.old, "node1")
	p.write(p.cfg.LinkKey, string(key))
}

// Files are replaced one after the other: whatever is there meanwhile, each
// half that fits is taken and nothing else.
func TestCertificateAndBundleMayComeTogether(t *testing.T) {
	p := newPlace(t)
	fresh := p.authority("new")
	p.trust(fresh)
	p.issue(fresh, "node1")
	require.Equal(t, Change{Link: true, Authorities: true}, p.set.Reload(), "both are new, and fit each other")
	p.trust(p.old, fresh)
	p.issue(p.authority("third"), "node1")
	require.Equal(t, Change{Authorities: true}, p.set.Reload(), "the bundle is good, the certificate is not")
	require.Contains(t, p.set.Failing(), Link)
	p.trust(p.authority("fourth"))
	p.issue(p.old, "node1")
	require.Equal(t, Change{Link: true}, p.set.Reload(), "the certificate is good, the bundle is not")
	require.Contains(t, p.set.Failing(), Authorities)
	require.NotContains(t, p.set.Failing(), Link)
}

func TestEndsAreToldInTimeAndOnceADay(t *testing.T) {
	p := newPlace(t)
	end := p.set.Link().Leaf.NotAfter
	require.EqualValues(t, end.Unix(), p.metric("strongroom_tls_not_after_timestamp_seconds", Link))
	require.EqualValues(t, p.set.API().Leaf.NotAfter.Unix(), p.metric("strongroom_tls_not_after_timestamp_seconds", API))
	require.EqualValues(t, p.set.Authorities().Certificates()[0].NotAfter.Unix(), p.metric("strongroom_tls_not_after_timestamp_seconds", Authorities))

	p.now = end.Add(-31 * day)
	p.set.read(false)
	require.Empty(t, p.log.take())
	p.now = end.Add(-29 * day)
	p.set.read(false)
	log := p.log.take()
	require.Equal(t, 2, strings.Count(log, "expires soon"), "of API and link: %s", log)
	p.now = p.now.Add(day / 2)
	p.set.read(false)
	require.Empty(t, p.log.take())
	p.now = end.Add(time.Hour)
	p.set.read(false)
	require.Equal(t, 2, strings.Count(p.log.take(), "has expired: others refuse it"))

	// What expired while it was in use keeps nothing else from being renewed.
	fresh := p.authority("new")
	p.trust(p.old, fresh)
	require.Equal(t, Change{Authorities: true}, p.set.Reload())
	p.issue(fresh, "node1")
	require.True(t, p.set.Reload().Link)
}

func TestThirdOfAShortLifeIsEnough(t *testing.T) {
	p := newPlace(t)
	c := p.set.Link().Leaf
	short := *c
	short.NotAfter = short.NotBefore.Add(24 * time.Hour)
	require.False(t, nearEnd(&short, short.NotBefore.Add(15*time.Hour)))
	require.True(t, nearEnd(&short, short.NotBefore.Add(17*time.Hour)))
}

// A node whose certificate has expired starts: it can be mended while it runs.
func TestOpenTellsWhatIsWrong(t *testing.T) {
	p := newPlace(t)
	p.cfg.Registerer = nil
	p.now = p.set.Link().Leaf.NotAfter.Add(time.Hour)
	_, err := Open(p.cfg)
	require.NoError(t, err)
	require.Contains(t, p.log.take(), "has expired")

	p.trust(p.authority("new"))
	_, err = Open(p.cfg)
	require.ErrorContains(t, err, "cluster.certFile: the certificate is not signed by an authority of the bundle")
	p.trust(p.old)
	p.issue(p.old, "node2")
	_, err = Open(p.cfg)
	require.ErrorContains(t, err, "cluster.certFile: the certificate is not of")
}

func TestMetricsAreServedFromTheStart(t *testing.T) {
	p := newPlace(t)
	for name, series := range map[string]int{"strongroom_tls_reloads_total": 8, "strongroom_tls_file_refused": 4, "strongroom_tls_not_after_timestamp_seconds": 3} {
		n, err := testutil.GatherAndCount(p.registry, name)
		require.NoError(t, err)
		require.Equal(t, series, n, name)
	}
}
