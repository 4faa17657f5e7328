package rotate

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"net"
	"strconv"

	"github.com/strongroom/strongroom/engine"
	"github.com/strongroom/strongroom/internal/secret"
)

// adminLogin is the JSON value of an adminSecret: where the server is, how to
// know it, and who may set passwords there.
type adminLogin struct {
	Host       string      `json:"host"`
	Port       json.Number `json:"port"`
	Username   string      `json:"username"`
	Password   string      `json:"password"`
	Database   string      `json:"database"`
	CA         string      `json:"ca"`         // certificates (PEM); absent: those of the system
	ServerName string      `json:"serverName"` // in the certificate; absent: host
}

// userLogin is the JSON value that rotations of a database write, and all of
// it: a field that somebody added, such as a connection URL, would keep an old
// password.
type userLogin struct {
	Engine   string `json:"engine"` // postgresql or mysql
	Host     string `json:"host"`
	Port     int    `json:"port"`
	Database string `json:"database,omitempty"`
	Username string `json:"username"`
	Password string `json:"password"`
}

// encode answers the value; the caller wipes it.
func (u userLogin) encode() (secret.Bytes, error) {
	var out bytes.Buffer
	e := json.NewEncoder(&out)
	e.SetEscapeHTML(false)
	if err := e.Encode(u); err != nil {
		return secret.Bytes{}, err
	}
	return secret.New(bytes.TrimRight(out.Bytes(), "\n")), nil
}

// decodeLogin reads a value of this kind. What it answers holds the password
// in a string, as drivers want it, which cannot be wiped: it must not outlive
// the step.
func decodeLogin(b secret.Bytes) (userLogin, bool) {
	var out userLogin
	if err := json.Unmarshal(b.Expose(), &out); err != nil || out.Username == "" || out.Password == "" {
		return userLogin{}, false
	}
	return out, true
}

// place is a database server, ready to be connected to.
type place struct {
	host     string
	port     int
	database string
	tls      *tls.Config
	dial     func(ctx context.Context, network, address string) (net.Conn, error)
}

func (p place) address() string { return net.JoinHostPort(p.host, strconv.Itoa(p.port)) }

// reach opens the adminSecret and answers the server that it names, if the
// operator allows it. The connection is always TLS, with the server's name
// verified.
func (d *database) reach(ctx context.Context, t engine.RotationTask, step string) (place, adminLogin, error) {
	raw, err := t.OpenAdmin(ctx)
	if err != nil {
		return place{}, adminLogin{}, err
	}
	var admin adminLogin
	if err := json.Unmarshal(raw.Expose(), &admin); err != nil || admin.Host == "" || admin.Username == "" || admin.Password == "" {
		// The cause may quote the value.
		return place{}, adminLogin{}, engine.TargetError(nil, `%s: the value of adminSecret must be JSON with host, username and password, and optionally port, database, ca and serverName`, step)
	}
	if admin.Port == "" {
		admin.Port = json.Number(d.usualPort)
	}
	port, err := strconv.Atoi(admin.Port.String())
	if err != nil || port < 1 || port > 65535 {
		return place{}, adminLogin{}, engine.TargetError(nil, "%s: the port in adminSecret must be 1 to 65535", step)
	}
	if err := d.guard.check("adminSecret", admin.Host, strconv.Itoa(port), d.usualPort); err != nil {
		return place{}, adminLogin{}, err
	}
	pool, err := roots(admin.CA)
	if err != nil {
		return place{}, adminLogin{}, engine.TargetError(nil, "%s: the ca in adminSecret must hold certificates (PEM)", step)
	}
	name := admin.ServerName
	if name == "" {
		name = admin.Host
	}
	return place{
		host: admin.Host, port: port, database: t.Settings.Database,
		tls:  &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: pool, ServerName: name},
		dial: d.guard.dialer(admin.Host),
	}, admin, nil
}
