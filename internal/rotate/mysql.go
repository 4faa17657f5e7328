package rotate

import (
	"context"
	"crypto/sha1" // what mysql_native_password is made of
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"

	driver "github.com/go-sql-driver/mysql"

	"github.com/strongroom/strongroom/engine"
)

// mysql is MySQL 8 or MariaDB 10.4, or later.
type mysql struct{}

// loginRefused are the server's errors that mean the login itself: access
// denied, with and without a password, account locked, password expired.
var loginRefused = []uint16{1045, 1698, 3118, 4151, 1862}

func mysqlError(err error) error {
	var said *driver.MySQLError
	if !errors.As(err, &said) {
		return err
	}
	for _, number := range loginRefused {
		if said.Number == number {
			return errLogin
		}
	}
	return serverError{strconv.Itoa(int(said.Number))}
}

// with runs do on one connection: TLS, no password in the clear unless inside
// it (caching_sha2_password does that once), no file of this machine, no second
// statement.
func (mysql) with(ctx context.Context, p place, database, username, password string, do func(conn *sql.Conn) error) error {
	cfg := driver.NewConfig()
	cfg.User, cfg.Passwd, cfg.DBName = username, password, database
	cfg.Net, cfg.Addr, cfg.TLS = "tcp", p.address(), p.tls.Clone()
	cfg.DialFunc, cfg.Timeout, cfg.ReadTimeout, cfg.WriteTimeout = p.dial, dialTimeout, dialTimeout, dialTimeout
	cfg.AllowCleartextPasswords, cfg.AllowFallbackToPlaintext, cfg.AllowOldPasswords = false, false, false
	cfg.Logger = &driver.NopLogger{}
	connector, err := driver.NewConnector(cfg)
	if err != nil {
		return fmt.Errorf("configuration of the driver: %w", err)
	}
	pool := sql.OpenDB(connector)
	defer func() { _ = pool.Close() }() // what was done is done
	conn, err := pool.Conn(ctx)
	if err != nil {
		return mysqlError(err)
	}
	defer func() { _ = conn.Close() }()
	return do(conn)
}

func (s mysql) login(ctx context.Context, p place, username, password string) error {
	return s.with(ctx, p, p.database, username, password, func(conn *sql.Conn) error {
		_, err := conn.ExecContext(ctx, "DO 1")
		return mysqlError(err)
	})
}

// account is one row of mysql.user: a user has a password for each pattern of
// hosts that it may come from.
type account struct{ host, plugin string }

// setPassword changes every account of the user: which of them a client is
// depends on where it comes from.
func (s mysql) setPassword(ctx context.Context, p place, admin adminLogin, username, password string) error {
	if !plainText(password) {
		return engine.TargetError(nil, "set: a password must be printable ASCII")
	}
	return s.with(ctx, p, admin.Database, admin.Username, admin.Password, func(conn *sql.Conn) error {
		// With this mode a quote is doubled and nothing else has a meaning. A
		// server that waits for a lock does not notice that its client has gone:
		// it must not come to the statement when another rotation is over.
		if _, err := conn.ExecContext(ctx, "SET SESSION sql_mode = 'NO_BACKSLASH_ESCAPES', lock_wait_timeout = 20"); err != nil {
			return mysqlError(err)
		}
		accounts, err := s.accounts(ctx, conn, username)
		if err != nil {
			return err
		}
		for _, a := range accounts {
			if _, err := conn.ExecContext(ctx, alterUser(username, a, password)); err != nil {
				return mysqlError(err)
			}
		}
		return nil
	})
}

func (mysql) accounts(ctx context.Context, conn *sql.Conn, username string) (out []account, err error) {
	rows, err := conn.QueryContext(ctx, "SELECT Host, plugin FROM mysql.user WHERE User = "+quoted(username))
	if err != nil {
		return nil, mysqlError(err)
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var a account
		if err := rows.Scan(&a.host, &a.plugin); err != nil {
			return nil, mysqlError(err)
		}
		out = append(out, a)
	}
	if err := rows.Err(); err != nil {
		return nil, mysqlError(err)
	}
	if len(out) == 0 {
		return nil, serverError{"nouser"}
	}
	return out, nil
}

// alterUser writes the statement for one account. Where the account has the
// old plugin it holds a hash of our making; elsewhere the password itself,
// which servers write to their logs as a hash or not at all, and a proxy that
// logs statements in full.
func alterUser(username string, a account, password string) string {
	statement := "ALTER USER " + quoted(username) + "@" + quoted(a.host) + " IDENTIFIED "
	if a.plugin == "mysql_native_password" {
		return statement + "WITH mysql_native_password AS " + quoted(nativeHash(password))
	}
	return statement + "BY " + quoted(password)
}

// quoted is a string literal for a session with NO_BACKSLASH_ESCAPES.
func quoted(text string) string { return "'" + strings.ReplaceAll(text, "'", "''") + "'" }

// nativeHash is what mysql_native_password keeps.
func nativeHash(password string) string {
	once := sha1.Sum([]byte(password)) // the plugin's own
	twice := sha1.Sum(once[:])         // the plugin's own
	return "*" + strings.ToUpper(hex.EncodeToString(twice[:]))
}
