package pkcs11

import "context"

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
		return s.held || s.finished >= target && (up || down != nil)
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
