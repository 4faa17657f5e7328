package client

import (
	"bytes"
	"context"
	"errors"
	"sync"
	"time"

	"github.com/strongroom/strongroom/api/wire"
	"github.com/strongroom/strongroom/internal/secret"
)

// loginTime bounds one login, repetitions included.
const loginTime = 30 * time.Second

// Login is a source of tokens that logs in by a trust, and again before a
// token ends: its Token is for Config.Token. It is safe for concurrent use.
type Login struct {
	client *Client
	trust  string
	jwt    func() (secret.Bytes, error)
	now    func() time.Time

	mu      sync.Mutex
	token   secret.Bytes
	renewAt time.Time // when a third of the token's life is left
	ends    time.Time
}

// NewLogin makes a Login by trust. cfg says where the cluster is; its Token
// and Certificate are not used. jwt answers a JWT of the trust's issuer that is
// good now, such as the content of a file that Kubernetes renews; what it
// answers is wiped.
func NewLogin(cfg Config, trust string, jwt func() (secret.Bytes, error)) (*Login, error) {
	if jwt == nil {
		return nil, errors.New("client: no source of JWTs is given")
	}
	cfg.Token, cfg.Certificate = nil, nil
	c, err := New(cfg)
	if err != nil {
		return nil, err
	}
	return &Login{client: c, trust: trust, jwt: jwt, now: time.Now}, nil
}

// Token answers a token that is good for at least a third of its life, or, as
// long as nobody lets the caller in anew, for what is left of it. The caller
// wipes it.
func (l *Login) Token() (secret.Bytes, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	if now.Before(l.renewAt) {
		return l.copied(), nil
	}
	err := l.renew(now)
	if err != nil && !now.Before(l.ends) {
		return secret.Bytes{}, err
	}
	return l.copied(), nil
}

func (l *Login) copied() secret.Bytes { return secret.Copy(l.token.Expose()) }

func (l *Login) renew(now time.Time) error {
	jwt, err := l.jwt()
	if err != nil {
		return err
	}
	defer jwt.Wipe()
	ctx, cancel := context.WithTimeout(context.Background(), loginTime)
	defer cancel()
	text := secret.Copy(bytes.TrimSpace(jwt.Expose())) // files end with a line feed, JWTs do not
	defer text.Wipe()
	answer, err := l.client.IAM().Login(ctx, wire.LoginRequest{Trust: l.trust, JWT: wire.NewText(text)})
	if err != nil {
		// The next attempt is not made by each request: a minute is little of
		// what is left of the token.
		l.renewAt = now.Add(time.Minute)
		if !l.renewAt.Before(l.ends) {
			l.renewAt = time.Time{}
		}
		return err
	}
	if answer.Token == nil || answer.ExpiresAt == nil {
		return errors.New("client: the answer to a login holds no token")
	}
	l.token.Wipe()
	l.token, l.ends = answer.Token.Bytes, answer.ExpiresAt.Time
	l.renewAt = now.Add(l.ends.Sub(now) * 2 / 3)
	return nil
}

// Close wipes the token, which stays good until it ends or is revoked, and
// lets go of idle connections.
func (l *Login) Close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.token.Wipe()
	l.renewAt, l.ends = time.Time{}, time.Time{}
	l.client.Close()
}
