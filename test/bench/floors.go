package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/hashicorp/go-hclog"
	hraft "github.com/hashicorp/raft"
	boltstore "github.com/hashicorp/raft-boltdb/v2"
	p11 "github.com/miekg/pkcs11"
	"go.etcd.io/bbolt"
)

// newFloors starts the floors of this machine. Each does the one thing that
// its operation cannot do without, with the same sizes, and nothing else.
func newFloors(module string) (map[string]load, func(), error) {
	dir, err := os.MkdirTemp("", "strongroom-bench-")
	if err != nil {
		return nil, nil, err
	}
	var closers []func()
	closeAll := func() {
		for _, c := range closers {
			c()
		}
		_ = os.RemoveAll(dir)
	}
	floors := map[string]load{}
	for name, start := range map[string]func(string) (load, func(), error){
		"tls":     tlsFloor,
		"raft":    raftFloor,
		"softhsm": func(dir string) (load, func(), error) { return hsmFloor(dir, module) },
	} {
		do, stop, err := start(dir)
		if err != nil {
			closeAll()
			return nil, nil, fmt.Errorf("floor %s: %w", name, err)
		}
		closers = append(closers, stop)
		floors[name] = do
	}
	return floors, closeAll, nil
}

// tlsFloor is net/http over TLS with a reply of the size of a getSecretValue
// answer for 1 KiB.
func tlsFloor(string) (load, func(), error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return nil, nil, err
	}
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}})
	if err != nil {
		return nil, nil, err
	}
	reply := bytes.Repeat([]byte("x"), 1368+400)
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = w.Write(reply)
	})}
	go func() { _ = server.Serve(l) }()
	pool := x509.NewCertPool()
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, nil, err
	}
	pool.AddCert(leaf)
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, MaxIdleConnsPerHost: 256}}
	url := "https://" + l.Addr().String() + "/"
	do := func(ctx context.Context, _ int) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader([]byte(`{"path":"/app/bench/service-1/secret-1"}`)))
		if err != nil {
			return err
		}
		resp, err := client.Do(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		_, err = io.Copy(io.Discard, resp.Body)
		return err
	}
	return do, func() { _ = server.Close() }, nil
}

// discard is a state machine that does nothing.
type discard struct{}

func (discard) Apply(*hraft.Log) any                  { return nil }
func (discard) Snapshot() (hraft.FSMSnapshot, error)  { return discard{}, nil }
func (discard) Restore(r io.ReadCloser) error         { return r.Close() }
func (discard) Persist(sink hraft.SnapshotSink) error { return sink.Close() }
func (discard) Release()                              {}

// commandBytes is about what a PutVersion of 1 KiB takes in the log.
const commandBytes = 1024 + 500

// raftFloor is three bare hashicorp/raft nodes with raft-boltdb in this
// process, over TCP without TLS.
func raftFloor(dir string) (load, func(), error) {
	var nodes []*hraft.Raft
	var stores []*boltstore.BoltStore
	var transports []*hraft.NetworkTransport
	var servers hraft.Configuration
	stop := func() {
		for _, n := range nodes {
			_ = n.Shutdown().Error()
		}
		for _, s := range stores {
			_ = s.Close()
		}
	}
	for i := range 3 {
		t, err := hraft.NewTCPTransport("127.0.0.1:0", nil, 3, 5*time.Second, io.Discard)
		if err != nil {
			return nil, nil, err
		}
		transports = append(transports, t)
		servers.Servers = append(servers.Servers, hraft.Server{ID: hraft.ServerID(fmt.Sprint(i)), Address: t.LocalAddr()})
	}
	for i := range 3 {
		home := filepath.Join(dir, fmt.Sprint("raft", i))
		if err := os.Mkdir(home, 0o700); err != nil {
			return nil, stop, err
		}
		store, err := boltstore.New(boltstore.Options{Path: filepath.Join(home, "raft.db"), BoltOptions: &bbolt.Options{NoFreelistSync: true}})
		if err != nil {
			return nil, stop, err
		}
		stores = append(stores, store)
		c := hraft.DefaultConfig()
		c.LocalID = servers.Servers[i].ID
		c.Logger = hclog.NewNullLogger()
		snapshots := hraft.NewDiscardSnapshotStore()
		if err := hraft.BootstrapCluster(c, store, store, snapshots, transports[i], servers); err != nil {
			return nil, stop, err
		}
		n, err := hraft.NewRaft(c, discard{}, store, store, snapshots, transports[i])
		if err != nil {
			return nil, stop, err
		}
		nodes = append(nodes, n)
	}
	leader, err := waitLeader(nodes)
	if err != nil {
		stop()
		return nil, nil, err
	}
	command := make([]byte, commandBytes)
	return func(context.Context, int) error { return leader.Apply(command, 5*time.Second).Error() }, stop, nil
}

func waitLeader(nodes []*hraft.Raft) (*hraft.Raft, error) {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	timeout := time.After(15 * time.Second)
	for {
		for _, n := range nodes {
			if n.State() == hraft.Leader && n.Barrier(time.Second).Error() == nil {
				return n, nil
			}
		}
		select {
		case <-tick.C:
		case <-timeout:
			return nil, errors.New("no leader in 15 s")
		}
	}
}

// hsmFloor is C_Decrypt of 32 bytes in this process, one session a worker.
func hsmFloor(dir, module string) (load, func(), error) {
	tokens := filepath.Join(dir, "tokens")
	conf := filepath.Join(dir, "softhsm2.conf")
	if err := os.Mkdir(tokens, 0o700); err != nil {
		return nil, nil, err
	}
	text := "directories.tokendir = " + tokens + "\nobjectstore.backend = file\nlog.level = ERROR\n"
	if err := errors.Join(os.WriteFile(conf, []byte(text), 0o600), os.Setenv("SOFTHSM2_CONF", conf)); err != nil {
		return nil, nil, err
	}
	p := p11.New(module)
	if p == nil {
		return nil, nil, fmt.Errorf("%s cannot be loaded; install softhsm2", module)
	}
	if err := p.Initialize(); err != nil {
		return nil, nil, err
	}
	slot, err := benchToken(p)
	if err != nil {
		return nil, nil, err
	}
	open := func() (p11.SessionHandle, error) {
		return p.OpenSession(slot, p11.CKF_SERIAL_SESSION|p11.CKF_RW_SESSION)
	}
	anchor, err := open()
	if err != nil {
		return nil, nil, err
	}
	if err := p.Login(anchor, p11.CKU_USER, "1234"); err != nil {
		return nil, nil, err
	}
	key, err := p.GenerateKey(anchor, []*p11.Mechanism{p11.NewMechanism(p11.CKM_AES_KEY_GEN, nil)}, []*p11.Attribute{
		p11.NewAttribute(p11.CKA_VALUE_LEN, 32), p11.NewAttribute(p11.CKA_TOKEN, false),
		p11.NewAttribute(p11.CKA_ENCRYPT, true), p11.NewAttribute(p11.CKA_DECRYPT, true), p11.NewAttribute(p11.CKA_SENSITIVE, true),
	})
	if err != nil {
		return nil, nil, err
	}
	iv := make([]byte, 12)
	iv[0] = 1
	gcm := func(s p11.SessionHandle, init func(p11.SessionHandle, []*p11.Mechanism, p11.ObjectHandle) error) (*p11.GCMParams, error) {
		params := p11.NewGCMParams(iv, nil, 128)
		return params, init(s, []*p11.Mechanism{p11.NewMechanism(p11.CKM_AES_GCM, params)}, key)
	}
	params, err := gcm(anchor, p.EncryptInit)
	if err != nil {
		return nil, nil, err
	}
	box, err := p.Encrypt(anchor, make([]byte, 32))
	params.Free()
	if err != nil {
		return nil, nil, err
	}
	sessions := make([]p11.SessionHandle, 256)
	for i := range sessions {
		if sessions[i], err = open(); err != nil {
			return nil, nil, err
		}
	}
	do := func(_ context.Context, worker int) error {
		params, err := gcm(sessions[worker], p.DecryptInit)
		defer params.Free()
		if err != nil {
			return err
		}
		_, err = p.Decrypt(sessions[worker], box)
		return err
	}
	return do, func() { _ = p.Finalize(); p.Destroy() }, nil
}

func benchToken(p *p11.Ctx) (uint, error) {
	slots, err := p.GetSlotList(true)
	if err != nil || len(slots) == 0 {
		return 0, fmt.Errorf("no slot: %w", err)
	}
	if err := p.InitToken(slots[0], "12345678", "bench"); err != nil {
		return 0, err
	}
	slots, err = p.GetSlotList(true)
	if err != nil {
		return 0, err
	}
	s, err := p.OpenSession(slots[0], p11.CKF_SERIAL_SESSION|p11.CKF_RW_SESSION)
	if err != nil {
		return 0, err
	}
	if err := p.Login(s, p11.CKU_SO, "12345678"); err != nil {
		return 0, err
	}
	return slots[0], errors.Join(p.InitPIN(s, "1234"), p.Logout(s), p.CloseSession(s))
}
