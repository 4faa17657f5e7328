package pkcs11

import (
	"bytes"
	"context"
	"errors"
	"runtime"

	"github.com/strongroom/strongroom/internal/fault"
)

// Export is what ExportRoot needs to know.
type Export struct {
	// Root describes the root key, with a copy for this HSM's transport key.
	Root Root
	// To is who shall receive it. That its public key is the right one is for
	// people to have made sure of: it is what the security officer consents to.
	To Recipient
	// SOPINFile holds the security officer's PIN; mode 0600 or 0400. A worker
	// reads it, and tries it once.
	SOPINFile string
}

// ExportRoot wraps the root key of the token of cfg to one more HSM, and
// answers its description with that one copy, which holds nothing secret and
// which the other HSM takes by UseRoot. Conflict where the profile is Strict.
//
// It is a ceremony of four workers, one after the other, because the two who
// have to agree cannot be logged in to one process:
//
//	user     rehearses: profile, root, copy, receiver; nothing is changed
//	officer  logs in, once, and trusts the receiver's key in the token
//	user     wraps the root under it
//	officer  takes the trust back
//
// The last also runs when the third fails. What a killed process leaves behind
// is the receiver's key, trusted: the next call removes it first of all.
func ExportRoot(ctx context.Context, cfg Config, x Export) (Root, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return Root{}, err
	}
	if err := x.Root.check(); err != nil {
		return Root{}, err
	}
	if x.To.Wrap == "" {
		x.To.Wrap = oaeps[len(oaeps)-1].name
	}
	d := &Device{cfg: cfg, log: cfg.Logger, metrics: &metrics{}}
	out, err := d.exportRoot(ctx, x)
	var known *fault.Error
	if err == nil || errors.As(err, &known) {
		return out, err
	}
	return Root{}, asFault(err)
}

func (d *Device) exportRoot(ctx context.Context, x Export) (Root, error) {
	if _, err := d.exportAsUser(ctx, x, true); err != nil {
		return Root{}, err
	}
	if err := ctx.Err(); err != nil {
		return Root{}, err
	}
	// From here on nobody's leaving ends it in the middle.
	officer := context.WithoutCancel(ctx)
	if err := d.trust(officer, trustRequest{soPINFile: x.SOPINFile, receiver: x.To}); err != nil {
		var answered *opError
		if !errors.As(err, &answered) {
			// It died, perhaps with the key made. The PIN is not known to be
			// right, so there is no second try: the next call sweeps.
			err = fail(statusRefused, err, "%s", mayStillTrust)
		}
		return Root{}, err
	}
	copied, err := d.exportAsUser(ctx, x, false)
	if back := d.trust(officer, trustRequest{soPINFile: x.SOPINFile}); back != nil {
		err = fail(statusRefused, errors.Join(back, err), "%s", mayStillTrust)
	}
	if err != nil {
		return Root{}, err
	}
	out := x.Root
	out.Copies = []RootCopy{copied}
	return out, nil
}

const mayStillTrust = "the receiver's key may still be trusted in the HSM; do the same again, which takes that back"

// exportAsUser is the user's half, or its rehearsal.
func (d *Device) exportAsUser(ctx context.Context, x Export, rehearsal bool) (RootCopy, error) {
	e := newEncoder(8192)
	exportRequest{rehearsal: rehearsal, root: x.Root, to: x.To}.put(e)
	var profile string
	var copies []RootCopy
	err := d.once(ctx, "the root key was exported", func(c *workerConn) error {
		personActed := newEncoder(1)
		personActed.flag(false)
		if err := d.ask(ctx, c, opLogin, personActed.b, loginTimeout, func(*decoder) {}); err != nil {
			return err
		}
		if err := d.ask(ctx, c, opProbe, nil, loginTimeout, func(in *decoder) { getProfile(in) }); err != nil {
			return err
		}
		return d.ask(ctx, c, opExportRoot, e.b, ceremonyTimeout, func(in *decoder) {
			if profile = in.text(); in.flag() {
				copies = getRoot(in).Copies
			}
		})
	})
	switch {
	case err != nil:
		return RootCopy{}, err
	case profile != Flexible:
		return RootCopy{}, fault.New(fault.Conflict, "the transport key of this HSM is of the profile %q: the root key can never leave it. "+
			"A root rotation that names the new HSM as a recipient makes a root key that both have: put the fingerprint of the new transport key "+
			"into hsm.admitTransportKeys and run strongroom cluster rotate-root-key", profile)
	case rehearsal:
		return RootCopy{}, nil
	case len(copies) != 1 || !bytes.Equal(copies[0].Fingerprint, sumOf(x.To.PublicDER)):
		return RootCopy{}, fail(statusSick, nil, "the HSM worker answered nonsense")
	}
	return copies[0], nil
}

// trust is the security officer's half, in a worker of its own.
func (d *Device) trust(ctx context.Context, m trustRequest) error {
	e := newEncoder(1024)
	m.put(e)
	return d.once(ctx, "the security officer is done", func(c *workerConn) error {
		return d.ask(ctx, c, opTrust, e.b, ceremonyTimeout, func(*decoder) {})
	})
}

// once starts a worker, has do speak with it, and ends it.
func (d *Device) once(ctx context.Context, end string, do func(c *workerConn) error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // see spawn
		c, err := d.spawnLoaded(ctx)
		if err != nil {
			done <- err
			return
		}
		err = do(c)
		d.reap(c, errors.New(end))
		done <- err
	}()
	return <-done
}

// check refuses what cannot be the description of a root key.
func (r Root) check() error {
	if r.Version == 0 || len(r.MACCheck) != 32 || len(r.CanaryBox) == 0 {
		return fault.Invalid("root", "is not the description of a root key")
	}
	return nil
}
