package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"golang.org/x/oauth2"

	"github.com/strongroom/strongroom/api/wire"
	"github.com/strongroom/strongroom/internal/secret"
)

// Bounds of a login in the browser. Issuers end it sooner, most of them within
// a quarter of an hour.
const (
	deviceTime      = 30 * time.Minute
	issuerTime      = 10 * time.Second
	maxIssuerAnswer = 1 << 20
)

// deviceLogin runs the device authorization grant (RFC 8628) at the issuer and
// answers the JWT. No secret is needed for it: the client is a public one.
func deviceLogin(ctx context.Context, how *wire.DescribeLoginResponse, out io.Writer) (secret.Bytes, error) {
	client, err := issuerClient(how.CAPEM)
	if err != nil {
		return secret.Bytes{}, err
	}
	defer client.CloseIdleConnections()
	endpoints, err := discover(ctx, client, how.Issuer)
	if err != nil {
		return secret.Bytes{}, err
	}
	ctx = context.WithValue(ctx, oauth2.HTTPClient, client)
	scopes := how.Scopes
	if len(scopes) == 0 {
		scopes = []string{"openid"}
	}
	cfg := oauth2.Config{ClientID: how.ClientID, Scopes: scopes, Endpoint: oauth2.Endpoint{
		DeviceAuthURL: endpoints.Device, TokenURL: endpoints.Token, AuthStyle: oauth2.AuthStyleInParams,
	}}
	device, err := cfg.DeviceAuth(ctx)
	if err != nil {
		return secret.Bytes{}, issuerFault(err)
	}
	at := device.VerificationURIComplete
	if at == "" {
		at = device.VerificationURI
	}
	// Texts of the issuer: shown only as what a terminal cannot obey.
	fmt.Fprintf(out, "Open %s\nand confirm the code %s\n", printable(at), printable(device.UserCode))
	token, err := cfg.DeviceAccessToken(ctx, device)
	if err != nil {
		return secret.Bytes{}, issuerFault(err)
	}
	// The ID token says who somebody is. Issuers without one give it in the
	// access token, where that is a JWT.
	jwt, _ := token.Extra("id_token").(string)
	if jwt == "" {
		jwt = token.AccessToken
	}
	if strings.Count(jwt, ".") != 2 {
		return secret.Bytes{}, errors.New("the issuer gave no JWT; the trust's scopes should have openid")
	}
	return secret.Copy([]byte(jwt)), nil
}

type endpoints struct {
	Issuer string `json:"issuer"`
	Device string `json:"device_authorization_endpoint"`
	Token  string `json:"token_endpoint"`
}

// discover reads the issuer's configuration (OpenID Connect Discovery 1.0).
func discover(ctx context.Context, client *http.Client, issuer string) (endpoints, error) {
	var out endpoints
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(issuer, "/")+"/.well-known/openid-configuration", nil)
	if err != nil {
		return out, fmt.Errorf("the trust's issuer: %w", err)
	}
	resp, err := client.Do(req)
	if err != nil {
		return out, fmt.Errorf("the trust's issuer: %w", err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(resp.Body, maxIssuerAnswer))
	if err != nil || resp.StatusCode != http.StatusOK {
		return out, errors.Join(fmt.Errorf("the trust's issuer %s: status %d", issuer, resp.StatusCode), err)
	}
	if err := json.Unmarshal(raw, &out); err != nil || out.Issuer != issuer {
		return out, fmt.Errorf("the configuration at %s is not the one of this issuer", issuer)
	}
	if out.Device == "" {
		return out, fmt.Errorf("the issuer %s has no login by device; get a JWT from it and use --jwt-file", issuer)
	}
	for _, endpoint := range []string{out.Device, out.Token} {
		if u, err := url.Parse(endpoint); err != nil || u.Scheme != "https" {
			return out, fmt.Errorf("the issuer %s names an endpoint without https", issuer)
		}
	}
	return out, nil
}

func issuerClient(pem string) (*http.Client, error) {
	cfg := &tls.Config{MinVersion: tls.VersionTLS12}
	if pem != "" {
		cfg.RootCAs = x509.NewCertPool()
		if !cfg.RootCAs.AppendCertsFromPEM([]byte(pem)) {
			return nil, errors.New("the trust's caPem holds no certificate")
		}
	}
	return &http.Client{
		Timeout:       issuerTime,
		Transport:     &http.Transport{TLSClientConfig: cfg, Proxy: http.ProxyFromEnvironment},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}, nil
}

// issuerFault shows the code of an answer of the issuer, and not its body,
// which could hold anything.
func issuerFault(err error) error {
	var answered *oauth2.RetrieveError
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return errors.New("the code was not confirmed in time; nothing was done: log in again")
	case errors.As(err, &answered) && answered.ErrorCode != "":
		return fmt.Errorf("the issuer refuses: %s %s", printable(answered.ErrorCode), printable(answered.ErrorDescription))
	case errors.As(err, &answered):
		return fmt.Errorf("the issuer answers with status %d", answered.Response.StatusCode)
	}
	return fmt.Errorf("the issuer: %w", err)
}
