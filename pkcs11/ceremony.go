package pkcs11

import (
	"bytes"
	"context"
	"errors"

	"github.com/strongroom/strongroom/internal/fault"
)

// InitToken makes a token with cfg's label and user PIN in a free slot of the
// module, with the security officer's PIN from soPINFile. It is for software
// tokens and for new partitions. A token with that label is left alone:
// AlreadyExists.
func InitToken(ctx context.Context, cfg Config, soPINFile string) error {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return err
	}
	d := &Device{cfg: cfg, log: cfg.Logger, metrics: &metrics{}}
	e := newEncoder(len(soPINFile))
	e.text(soPINFile)
	return asFault(d.once(ctx, "the token was initialised", func(c *workerConn) error {
		return d.ask(ctx, c, opInitToken, e.b, ceremonyTimeout, func(*decoder) {})
	}))
}

// restart replaces the worker and waits for how that ended. It never costs a
// try of a PIN that was refused.
func (d *Device) restart(ctx context.Context) error {
	var target uint64
	var held error
	d.change(func(s *deviceState) {
		if s.held {
			held = s.down
			return
		}
		s.wanted = s.started + 1
		target = s.wanted
		if s.conn != nil {
			s.conn, s.down = nil, nil
		}
	})
	if held != nil {
		return unavailable(held)
	}
	select {
	case d.kick <- struct{}{}:
	default: // a kick is waiting already
	}
	var down error
	var up bool
	err := d.await(ctx, func(s *deviceState) bool {
		down, up = s.down, s.conn != nil
		return s.finished >= target && (up || down != nil)
	})
	if err != nil {
		return err
	}
	if !up {
		return asFault(down)
	}
	return nil
}

// CreateTransportKey makes the pair through which this HSM receives root
// keys: RSA-3072, made inside, never extractable, good for unwrapping only.
// What it receives never leaves again (Strict). It answers what a fresh worker
// then finds in the token. AlreadyExists when there is one.
func (d *Device) CreateTransportKey(ctx context.Context) (TransportKey, error) {
	return d.createTransportKey(ctx, Strict)
}

// CreateFlexibleTransportKey is CreateTransportKey for an HSM that can pass
// the root key on, with the security officer's consent to each receiver
// (Flexible, ExportRoot). An HSM that does not enforce that is refused.
func (d *Device) CreateFlexibleTransportKey(ctx context.Context) (TransportKey, error) {
	return d.createTransportKey(ctx, Flexible)
}

func (d *Device) createTransportKey(ctx context.Context, profile string) (TransportKey, error) {
	d.ceremonies.Lock()
	defer d.ceremonies.Unlock()
	e := newEncoder(len(profile))
	e.text(profile)
	if err := d.request(ctx, opCreateTransport, e.b, func(*decoder) {}); err != nil {
		return TransportKey{}, err
	}
	if err := d.restart(ctx); err != nil {
		return TransportKey{}, err
	}
	return d.TransportKey(ctx)
}

// TransportKey answers the public half of the pair; NotFound when this HSM
// has none.
func (d *Device) TransportKey(ctx context.Context) (TransportKey, error) {
	var out TransportKey
	err := d.request(ctx, opTransport, nil, func(in *decoder) { out = getTransportKey(in) })
	return out, err
}

// CreateRoot makes version of the root key, and its MAC key, inside this HSM.
// They leave it only wrapped to the transport keys of to and to our own, and
// nothing else can ever take them out: what is not in to is fed by nobody
// (the strict profile). This HSM imports its own copy like any other and is
// then checked by a fresh worker; after that the device uses the new root.
//
// When it fails after the root was made, the root is lost and nothing depends
// on it; call it again.
func (d *Device) CreateRoot(ctx context.Context, version uint32, to []Recipient) (Root, error) {
	if version == 0 {
		return Root{}, fault.Invalid("version", "must be 1 or more")
	}
	e := newEncoder(1024 * (len(to) + 1))
	e.u32(version)
	putRecipients(e, to)
	var out Root
	err := func() error {
		d.ceremonies.Lock()
		defer d.ceremonies.Unlock()
		return d.request(ctx, opCreateRoot, e.b, func(in *decoder) { out = getRoot(in) })
	}()
	if err != nil {
		return Root{}, err
	}
	if err := d.UseRoot(ctx, out); err != nil {
		return Root{}, err
	}
	return out, nil
}

// UseRoot makes the device serve with r. The HSM must hold exactly that root:
// found by name and id, its check value, MAC check and canary right, and kept
// in by the HSM. An HSM that has the transport key and not yet the root
// imports it from r's copies. Nothing is ever created. From then on the canary
// runs every ProbeInterval.
//
// After a failure the device goes on with the root that it had.
func (d *Device) UseRoot(ctx context.Context, r Root) error {
	if err := r.check(); err != nil {
		return err
	}
	d.ceremonies.Lock()
	defer d.ceremonies.Unlock()
	before := d.snapshot()
	if before.root != nil && before.conn != nil && bytes.Equal(before.root.MACCheck, r.MACCheck) && before.root.Version == r.Version {
		return nil
	}
	d.change(func(s *deviceState) { s.root, s.allowImport = &r, true })
	err := d.restart(ctx)
	if err != nil {
		d.change(func(s *deviceState) { s.root = before.root })
	}
	d.change(func(s *deviceState) { s.allowImport = false })
	if err != nil && before.root != nil {
		return errors.Join(err, d.restart(context.WithoutCancel(ctx)))
	}
	return err
}
