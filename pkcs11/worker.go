package pkcs11

import (
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// workerFD is where the parent puts its end of the socket pair.
const workerFD = 3

// WorkerMain is the child process: `strongroom hsm-worker`. It owns the
// PKCS#11 module, the sessions and the PIN, serves the parent over the socket
// at file descriptor 3, and ends with it. It answers the exit code.
//
// A person who starts it by hand gets an explanation and code 2.
func WorkerMain() int {
	if err := harden(); err != nil {
		fmt.Fprintf(os.Stderr, "hsm-worker: %v\n", err)
		return 1
	}
	conn, err := parentConn()
	if err != nil {
		fmt.Fprintf(os.Stderr, "hsm-worker: %v; strongroom starts this process itself\n", err)
		return 2
	}
	w := &worker{conn: conn, hot: make(chan frame, maxInFlight+8), slow: make(chan frame, maxInFlight+8)}
	go w.serveSlow()
	// Reading ends when the parent does. Calls that are inside the module
	// then are abandoned with the process: it has nothing to hand over, and
	// C_Finalize under load is a crash.
	if err := w.read(); err != nil {
		fmt.Fprintf(os.Stderr, "hsm-worker: %v\n", err)
		return 1
	}
	return 0
}

// harden keeps the process's memory, which holds the PIN and the module's
// keys, from core files, debuggers and /proc readers of the same user.
func harden() error {
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("prctl PR_SET_DUMPABLE: %w", err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return fmt.Errorf("setrlimit RLIMIT_CORE: %w", err)
	}
	return nil
}

func parentConn() (net.Conn, error) {
	kind, err := unix.GetsockoptInt(workerFD, unix.SOL_SOCKET, unix.SO_TYPE)
	if err != nil || kind != unix.SOCK_STREAM {
		return nil, errors.New("file descriptor 3 is not the parent's socket")
	}
	unix.CloseOnExec(workerFD)
	f := os.NewFile(workerFD, "parent")
	defer f.Close()
	return net.FileConn(f)
}

// worker is the child half. The reading goroutine answers pings itself, so a
// ping tells whether the process runs, not whether the module answers.
type worker struct {
	conn    net.Conn
	writing sync.Mutex

	// Both have room for all that the parent may have in flight: the reading
	// goroutine never waits, so pings are answered whatever the module does.
	hot  chan frame // to the sessions
	slow chan frame // to the one goroutine for start-up, ceremonies, pairs and imports

	// Set by the slow goroutine before the sessions start, never changed.
	config   loadRequest
	mod      *module
	token    token
	loggedIn uint // the session that logged in and becomes the anchor; 0: not yet
	profile  Profile
	anchor   *anchor
	keys     *handles

	root    atomic.Pointer[rootKeys] // the one that new keys are made under, with the others; nil until opUseRoot succeeded
	unlucky atomic.Int32             // operations that failed in a row on a device that is well
	stuck   int                      // the anchor's: objects that the HSM would not destroy
	until   time.Time                // the slow goroutine's: nothing of the request in hand is begun once more after this

	// Of modules that want a log-in in each session; see sessionLogin.
	logins     sync.Mutex
	lastTry    bool      // as the worker's log-in was told
	pinFile    fileState // that the worker logged in with
	pinRefused atomic.Pointer[opError]
}

func (w *worker) read() error {
	for {
		f, err := readFrame(w.conn)
		if err != nil {
			if errors.Is(err, net.ErrClosed) || isEOF(err) {
				return nil
			}
			return err
		}
		f.received = time.Now()
		switch op(f.kind) {
		case opPing:
			e := newEncoder(8)
			w.putLoad(e)
			w.answer(f, e, nil)
		case opCanary, opGenerateKey, opSeal, opOpen, opMAC, opRandom, opSign, opKeyMAC, opDecryptRSA, opCheckKey:
			w.hot <- f
		default:
			w.slow <- f
		}
	}
}

// putLoad reports how many keys are loaded.
func (w *worker) putLoad(e *encoder) {
	n := 0
	if w.root.Load() != nil {
		n = w.keys.len()
	}
	e.u32(uint32(n))
}

// answer sends the outcome of f and wipes both payloads.
func (w *worker) answer(f frame, e *encoder, err error) {
	out := frame{kind: uint8(statusOK), id: f.id}
	if err != nil {
		failure := w.told(err)
		e = newEncoder(len(failure.Error()))
		e.text(failure.text)
		e.text(failure.detail())
		out.kind = uint8(failure.status)
	}
	if e != nil {
		out.payload = e.b
	}
	w.writing.Lock()
	defer w.writing.Unlock()
	if err := writeFrame(w.conn, out); err != nil {
		// The parent is gone or the answer cannot be framed: end the
		// connection, the reading goroutine then ends the process.
		_ = w.conn.Close()
	}
	out.wipe()
	f.wipe()
}

// serveSlow is the one goroutine for what is not a hot call. It keeps its
// thread: some modules bind state to threads.
func (w *worker) serveSlow() {
	runtime.LockOSThread()
	for f := range w.slow {
		e := newEncoder(4096)
		w.until = time.Now().Add(patienceFor(op(f.kind)))
		w.answer(f, e, w.doSlow(op(f.kind), &decoder{b: f.payload}, e))
	}
}

func (w *worker) doSlow(o op, d *decoder, e *encoder) error {
	if o != opLoad && w.mod == nil {
		return fail(statusSick, nil, "the worker has no module yet")
	}
	switch o {
	case opLoad:
		return w.load(d)
	case opInitToken:
		return w.initToken(d)
	case opTrust:
		return w.trust(d)
	case opLogin:
		return w.login(d)
	case opProbe:
		return w.begin(d, e)
	}
	if w.anchor == nil {
		return fail(statusSick, nil, "the worker has not probed the module yet")
	}
	switch o {
	case opUseRoot:
		return w.useRoot(d, e)
	case opImportRoot:
		return w.importOneRoot(d)
	case opMakeUnder:
		return w.makeUnder(d)
	case opRemoveRoot:
		return w.removeRoot(d)
	case opCreateTransport:
		return w.ceremony(func(session uint) error { return w.createTransport(session, d) })
	case opTransport:
		return w.transport(d, e)
	case opCreateStorage:
		return w.createStorage(d)
	case opSealStorage:
		return w.sealStorage(d, e)
	case opOpenStorage:
		return w.openStorage(d, e)
	case opRemoveStorage:
		return w.removeStorage(d)
	case opCreateRoot:
		return w.createRoot(d, e)
	case opExportRoot:
		return w.ceremony(func(session uint) error { return w.exportRoot(session, d, e) })
	case opImportKey:
		return w.apart(func(s *hotSession, root *rootKeys) error { return s.importKey(root, d, e) })
	case opRewrap:
		return w.apart(func(s *hotSession, root *rootKeys) error { return s.rewrap(root, d, e) })
	case opGeneratePair:
		return w.apart(func(s *hotSession, root *rootKeys) error { return s.generatePair(root, d, e) })
	default:
		return fail(statusSick, nil, "the worker does not know %v", o)
	}
}

func (w *worker) load(d *decoder) error {
	config := getLoadRequest(d)
	if err := d.done(); err != nil {
		return err
	}
	if w.mod != nil {
		return fail(statusSick, nil, "the module is loaded already")
	}
	m, err := loadModule(config.module, config.initArgs)
	if err != nil {
		return err
	}
	m.own = config.dialect.Own()
	w.config, w.mod = config, m
	return nil
}

// ceremony runs do on a session of its own. Closing that session destroys
// every session object that do left behind, also when it failed half-way.
func (w *worker) ceremony(do func(session uint) error) error {
	session, err := w.newSession(w.until)
	if err != nil {
		return err
	}
	defer w.mod.closeSession(session)
	return do(session)
}

// apart is a ceremony under the root in use, which may renew its session. An
// RSA pair takes seconds: on a session that serves, the calls queueing behind
// it would pass their deadlines and cost the worker its life.
func (w *worker) apart(do func(s *hotSession, root *rootKeys) error) error {
	root := w.root.Load()
	if root == nil {
		return fail(statusBusy, nil, "no root key is in use yet")
	}
	return w.renewable(func(s *hotSession) error { return do(s, root) })
}

// renewable is a ceremony that may renew its session.
func (w *worker) renewable(do func(s *hotSession) error) error {
	handle, err := w.newSession(w.until)
	if err != nil {
		return err
	}
	s := &hotSession{w: w, handle: handle, until: w.until}
	defer func() {
		if s.handle != 0 {
			w.mod.closeSession(s.handle)
		}
	}()
	return do(s)
}

// login finds the token and logs in. The log-in is done once, whatever comes
// of it: even an error of the device may have cost a try of the PIN.
func (w *worker) login(d *decoder) error {
	lastTry := d.flag()
	if err := d.done(); err != nil {
		return err
	}
	if w.loggedIn != 0 {
		return fail(statusSick, nil, "the worker is logged in already")
	}
	err := persist(startTries, w.until, func() (err error) {
		w.token, err = w.mod.findToken(w.config.label, w.config.serial)
		return err
	})
	if err != nil {
		return err
	}
	session, err := w.newSession(w.until)
	if err != nil {
		return err
	}
	if err := w.userLogin(session, lastTry); err != nil {
		return err
	}
	w.loggedIn = session
	return nil
}

// begin probes the module and opens the sessions that serve.
func (w *worker) begin(d *decoder, e *encoder) error {
	if err := d.done(); err != nil {
		return err
	}
	if w.loggedIn == 0 || w.anchor != nil {
		return fail(statusSick, nil, "the worker is not logged in, or has begun already")
	}
	if err := w.fits(); err != nil {
		return err
	}
	profile, err := w.probe()
	if err != nil {
		return w.ofModule(err)
	}
	w.keys = newHandles(int(w.config.handles))
	w.anchor = newAnchor(w.loggedIn)
	go w.anchor.run()
	for range w.config.sessions {
		handle, err := w.newSession(w.until)
		if err != nil {
			return err
		}
		s := &hotSession{w: w, handle: handle}
		go s.run()
	}
	profile.put(e)
	return nil
}

// ofModule puts the module's own name before the reason why it is refused:
// who reads it may have several, and versions of a module differ.
func (w *worker) ofModule(err error) error {
	var refusal *opError
	if w.profile.Module == "" || !errors.As(err, &refusal) || refusal.status != statusRefused {
		return err
	}
	return fail(statusRefused, refusal.cause, "%s: %s", w.profile.Module, refusal.text)
}
