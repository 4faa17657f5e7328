package rotation_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"database/sql"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	mysql "github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/internal/pki"
)

const adminPassword = "the administrator's password"

// server is a real database server that the tests have started.
type server struct {
	kind string // of the rotation
	dir  string
	port int
	ca   string
	tls  *tls.Config
	argv []string
	cmd  *exec.Cmd
	done chan struct{}
	exec func(sql string) error // as the administrator
	open func(username, password string) error
	user string // statement that makes one, with NAME and SECRET quoted
	logs string // file with all statements
}

// unprivileged is who servers run as: they refuse root.
func unprivileged() (*syscall.Credential, error) {
	if os.Getuid() != 0 {
		return nil, nil
	}
	nobody, err := user.Lookup("nobody")
	if err != nil {
		return nil, err
	}
	uid, uidErr := strconv.ParseUint(nobody.Uid, 10, 32)
	gid, gidErr := strconv.ParseUint(nobody.Gid, 10, 32)
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, errors.Join(uidErr, gidErr)
}

// program finds a server's program where the distribution puts it.
func program(name string, patterns ...string) (string, error) {
	for _, pattern := range patterns {
		found, err := filepath.Glob(pattern)
		if err != nil {
			return "", err
		}
		if len(found) > 0 {
			return found[len(found)-1], nil
		}
	}
	path, err := exec.LookPath(name)
	if err != nil {
		return "", fmt.Errorf("%w: make testdeps installs it", err)
	}
	return path, nil
}

// newServer prepares a folder with certificates, of the user that the server
// will run as.
func newServer(kind string) (*server, error) {
	dir, err := os.MkdirTemp("", "strongroom-"+kind)
	if err != nil {
		return nil, err
	}
	s := &server{kind: kind, dir: dir}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return s, err
	}
	s.port = l.Addr().(*net.TCPAddr).Port
	if err := l.Close(); err != nil {
		return s, err
	}
	ca, err := pki.CreateCA("test", time.Now())
	if err != nil {
		return s, err
	}
	leaf, err := pki.IssueServer(ca, []string{"127.0.0.1"}, time.Now())
	if err != nil {
		return s, err
	}
	if err := leaf.Write(s.file("cert.pem"), s.file("key.pem")); err != nil {
		return s, err
	}
	s.ca = string(ca.Cert)
	if err := os.WriteFile(s.file("ca.pem"), ca.Cert, 0o600); err != nil {
		return s, err
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(ca.Cert)
	s.tls = &tls.Config{RootCAs: pool, ServerName: "127.0.0.1", MinVersion: tls.VersionTLS12}
	return s, s.own()
}

func (s *server) file(name string) string { return filepath.Join(s.dir, name) }

// own gives the folder and all in it to the server's user.
func (s *server) own() error {
	who, err := unprivileged()
	if err != nil || who == nil {
		return err
	}
	return filepath.Walk(s.dir, func(path string, _ os.FileInfo, err error) error {
		if err != nil {
			return err
		}
		return os.Chown(path, int(who.Uid), int(who.Gid))
	})
}

func (s *server) command(argv ...string) (*exec.Cmd, error) {
	who, err := unprivileged()
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Dir, cmd.Env = s.dir, []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=" + s.dir, "TMPDIR=" + s.dir, "LC_ALL=C", "TZ=UTC"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: who, Pdeathsig: syscall.SIGKILL}
	return cmd, err
}

func (s *server) run(input string, argv ...string) error {
	cmd, err := s.command(argv...)
	if err != nil {
		return err
	}
	cmd.Stdin = strings.NewReader(input)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", argv[0], err, out)
	}
	return nil
}

// start runs the server until stop, and waits until it answers.
func (s *server) start() error {
	var err error
	if s.cmd, err = s.command(s.argv...); err != nil {
		return err
	}
	out, err := os.OpenFile(s.file("server.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = out.Close() }()
	s.cmd.Stdout, s.cmd.Stderr = out, out
	if err := s.cmd.Start(); err != nil {
		return err
	}
	s.done = make(chan struct{})
	go func(cmd *exec.Cmd, done chan struct{}) { _ = cmd.Wait(); close(done) }(s.cmd, s.done)
	until := time.NewTimer(60 * time.Second)
	defer until.Stop()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		err := s.exec("SELECT 1")
		if err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-s.done:
			log, readErr := os.ReadFile(s.file("server.log"))
			return errors.Join(fmt.Errorf("the server ended: %s", log), readErr)
		case <-until.C:
			return fmt.Errorf("the server does not answer: %w", err)
		}
	}
}

func (s *server) stop() {
	if s.cmd == nil || s.cmd.Process == nil {
		return
	}
	_ = s.cmd.Process.Signal(syscall.SIGINT) // PostgreSQL: fast
	_ = s.cmd.Process.Signal(syscall.SIGTERM)
	<-s.done
}

func (s *server) close() { s.stop(); _ = os.RemoveAll(s.dir) }

func (s *server) adminJSON(password string) string {
	return fmt.Sprintf(`{"host":"127.0.0.1","port":%d,"username":"rotator","password":%q,"ca":%q}`, s.port, password, s.ca)
}

func (s *server) login(username, password string) error { return s.open(username, password) }

// addUser makes a user anew.
func (s *server) addUser(t *testing.T, name, password string) {
	t.Helper()
	for statement := range strings.SplitSeq(s.user, ";") {
		require.NoError(t, s.exec(strings.NewReplacer("NAME", name, "SECRET", strings.ReplaceAll(password, "'", "''")).Replace(statement)))
	}
}

// startPostgres makes a cluster whose only way in is TLS with SCRAM.
func startPostgres() (*server, error) {
	s, err := newServer("postgresql")
	if err != nil {
		return s, err
	}
	initdb, err := program("initdb", "/usr/lib/postgresql/*/bin/initdb")
	if err != nil {
		return s, err
	}
	password := s.file("password")
	if err := os.WriteFile(password, []byte(adminPassword), 0o600); err != nil {
		return s, err
	}
	if err := s.own(); err != nil {
		return s, err
	}
	data := s.file("data")
	if err := s.run("", initdb, "-D", data, "-U", "boss", "--pwfile", password, "-A", "scram-sha-256", "-E", "UTF8", "--no-sync"); err != nil {
		return s, err
	}
	hba := "hostssl all all 127.0.0.1/32 scram-sha-256\n"
	if err := os.WriteFile(filepath.Join(data, "pg_hba.conf"), []byte(hba), 0o600); err != nil {
		return s, err
	}
	postgres := filepath.Join(filepath.Dir(initdb), "postgres")
	if err := s.run("CREATE ROLE rotator LOGIN CREATEROLE PASSWORD 'the administrator''s password'\n", postgres, "--single", "-D", data, "postgres"); err != nil {
		return s, err
	}
	s.logs = s.file("server.log")
	s.argv = []string{postgres, "-D", data, "-p", strconv.Itoa(s.port), "-c", "listen_addresses=127.0.0.1",
		"-c", "unix_socket_directories=", "-c", "ssl=on", "-c", "ssl_cert_file=" + s.file("cert.pem"), "-c", "ssl_key_file=" + s.file("key.pem"),
		"-c", "fsync=off", "-c", "max_connections=50", "-c", "shared_buffers=16MB", "-c", "log_statement=all", "-c", "log_connections=off"}
	connect := func(username, password string, do func(ctx context.Context, c *pgx.Conn) error) error {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		cfg, err := pgx.ParseConfig("host=127.0.0.1 user=x dbname=postgres sslmode=disable passfile=/dev/null")
		if err != nil {
			return err
		}
		cfg.Port, cfg.User, cfg.Password, cfg.TLSConfig, cfg.Fallbacks = uint16(s.port), username, password, s.tls.Clone(), nil
		c, err := pgx.ConnectConfig(ctx, cfg)
		if err != nil {
			return err
		}
		return errors.Join(do(ctx, c), c.Close(ctx))
	}
	s.exec = func(statement string) error {
		return connect("rotator", adminPassword, func(ctx context.Context, c *pgx.Conn) error { _, err := c.Exec(ctx, statement); return err })
	}
	s.open = func(username, password string) error {
		return connect(username, password, func(context.Context, *pgx.Conn) error { return nil })
	}
	s.user = `DROP ROLE IF EXISTS "NAME";CREATE ROLE "NAME" LOGIN PASSWORD 'SECRET'`
	return s, s.start()
}

// startMariaDB makes a server whose only way in is TLS.
func startMariaDB() (*server, error) {
	s, err := newServer("mysql")
	if err != nil {
		return s, err
	}
	install, err := program("mariadb-install-db", "/usr/bin/mariadb-install-db")
	if err != nil {
		return s, err
	}
	mariadbd, err := program("mariadbd", "/usr/sbin/mariadbd")
	if err != nil {
		return s, err
	}
	data := s.file("data")
	if err := s.run("", install, "--no-defaults", "--datadir="+data, "--auth-root-authentication-method=normal", "--skip-test-db", "--skip-name-resolve"); err != nil {
		return s, err
	}
	first := "CREATE USER IF NOT EXISTS 'rotator'@'127.0.0.1' IDENTIFIED BY 'the administrator''s password';\n" +
		"GRANT CREATE USER ON *.* TO 'rotator'@'127.0.0.1';\nGRANT SELECT ON mysql.user TO 'rotator'@'127.0.0.1';\n"
	if err := os.WriteFile(s.file("first.sql"), []byte(first), 0o600); err != nil {
		return s, err
	}
	if err := s.own(); err != nil {
		return s, err
	}
	s.logs = s.file("statements.log")
	s.argv = []string{mariadbd, "--no-defaults", "--datadir=" + data, "--port=" + strconv.Itoa(s.port), "--bind-address=127.0.0.1", "--socket=" + s.file("s"),
		"--pid-file=" + s.file("pid"), "--ssl-ca=" + s.file("ca.pem"), "--ssl-cert=" + s.file("cert.pem"), "--ssl-key=" + s.file("key.pem"),
		"--require-secure-transport=ON", "--skip-name-resolve", "--init-file=" + s.file("first.sql"), "--innodb-flush-log-at-trx-commit=0",
		"--innodb-buffer-pool-size=8M", "--general-log=1", "--general-log-file=" + s.logs, "--max-connect-errors=100000"}
	open := func(username, password string, do func(ctx context.Context, db *sql.DB) error) error {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		cfg := mysql.NewConfig()
		cfg.User, cfg.Passwd, cfg.Net, cfg.Addr, cfg.TLS = username, password, "tcp", fmt.Sprintf("127.0.0.1:%d", s.port), s.tls.Clone()
		cfg.Logger = &mysql.NopLogger{}
		connector, err := mysql.NewConnector(cfg)
		if err != nil {
			return err
		}
		db := sql.OpenDB(connector)
		return errors.Join(do(ctx, db), db.Close())
	}
	s.exec = func(statement string) error {
		return open("rotator", adminPassword, func(ctx context.Context, db *sql.DB) error { _, err := db.ExecContext(ctx, statement); return err })
	}
	s.open = func(username, password string) error {
		return open(username, password, func(ctx context.Context, db *sql.DB) error { return db.PingContext(ctx) })
	}
	s.user = "DROP USER IF EXISTS 'NAME'@'%';CREATE USER 'NAME'@'%' IDENTIFIED BY 'SECRET'"
	return s, s.start()
}

var servers []*server

func TestMain(m *testing.M) { os.Exit(withServers(m)) }

func withServers(m *testing.M) int {
	defer func() {
		for _, s := range servers {
			s.close()
		}
	}()
	for _, start := range []func() (*server, error){startPostgres, startMariaDB} {
		s, err := start()
		servers = append(servers, s)
		if err != nil {
			fmt.Fprintln(os.Stderr, "a database server cannot be started:", err)
			return 1
		}
	}
	return m.Run()
}

// onEach runs a test against each server.
func onEach(t *testing.T, test func(t *testing.T, db *server)) {
	for _, s := range slices.Clone(servers) {
		t.Run(s.kind, func(t *testing.T) { test(t, s) })
	}
}
