package rotate

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/strongroom/strongroom/engine"
)

// closeTimeout bounds the good-bye of a connection.
const closeTimeout = 2 * time.Second

// postgres is PostgreSQL 10 or later.
type postgres struct{}

// connect logs in by SCRAM over TLS, and in no other way: a server that asks
// for the password itself, in the clear or as MD5, gets nothing.
func (postgres) connect(ctx context.Context, p place, database, username, password string) (*pgx.Conn, error) {
	cfg, err := pgx.ParseConfig("host=localhost user=unset sslmode=disable passfile=/dev/null")
	if err != nil {
		return nil, fmt.Errorf("configuration of the driver: %w", err)
	}
	// Each field that the environment of the process could have filled in.
	cfg.Host, cfg.Port, cfg.Database = p.host, uint16(p.port), database
	cfg.User, cfg.Password = username, password
	cfg.TLSConfig, cfg.Fallbacks, cfg.RequireAuth = p.tls.Clone(), nil, "scram-sha-256"
	cfg.RuntimeParams = map[string]string{"application_name": "strongroom"}
	cfg.DialFunc, cfg.ConnectTimeout = p.dial, dialTimeout
	cfg.KerberosSpn, cfg.KerberosSrvName = "", ""
	cfg.ValidateConnect, cfg.AfterConnect, cfg.OnNotice = nil, nil, nil
	cfg.DefaultQueryExecMode = pgx.QueryExecModeSimpleProtocol
	cfg.StatementCacheCapacity, cfg.DescriptionCacheCapacity = 0, 0
	conn, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return nil, postgresError(err)
	}
	return conn, nil
}

// postgresError drops the text of what the server said.
func postgresError(err error) error {
	var said *pgconn.PgError
	if !errors.As(err, &said) {
		return err
	}
	if said.Code == "28P01" || said.Code == "28000" { // invalid_password, invalid_authorization_specification
		return errLogin
	}
	return serverError{said.Code}
}

func (s postgres) with(ctx context.Context, p place, database, username, password string, do func(conn *pgx.Conn) error) error {
	if database == "" {
		database = "postgres"
	}
	conn, err := s.connect(ctx, p, database, username, password)
	if err != nil {
		return err
	}
	doErr := do(conn)
	closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
	defer cancel()
	_ = conn.Close(closing) // what was done is done
	return doErr
}

func (s postgres) login(ctx context.Context, p place, username, password string) error {
	return s.with(ctx, p, p.database, username, password, func(conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, "SELECT 1")
		return postgresError(err)
	})
}

// setPassword sends a verifier of our making. Both parts of the statement are
// quoted for a server with standard_conforming_strings, and the verifier has
// no character that would need it.
func (s postgres) setPassword(ctx context.Context, p place, admin adminLogin, username, password string) error {
	if !plainText(password) {
		return engine.TargetError(nil, "set: a password must be printable ASCII")
	}
	text, err := verifier([]byte(password))
	if err != nil {
		return err
	}
	database := admin.Database
	if database == "" {
		database = p.database
	}
	return s.with(ctx, p, database, admin.Username, admin.Password, func(conn *pgx.Conn) error {
		// A server does not notice that its client has gone while it waits for a
		// lock. It must not come to the statement when another rotation is over.
		if _, err := conn.Exec(ctx, "SET statement_timeout = '20s'"); err != nil {
			return postgresError(err)
		}
		_, err := conn.Exec(ctx, "ALTER ROLE "+pgx.Identifier{username}.Sanitize()+" PASSWORD '"+text+"'")
		return postgresError(err)
	})
}
