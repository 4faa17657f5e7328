package objectstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials/ec2rolecreds"
	"github.com/aws/aws-sdk-go-v2/feature/ec2/imds"

	"github.com/strongroom/strongroom/internal/config"
)

const (
	maxCredentials = 16 << 10
	// reread is how long credentials of a file or the environment are used
	// before they are read again, so a file may be replaced while the node runs.
	reread = time.Minute
)

func credentialsFor(cfg Config) (aws.CredentialsProvider, error) {
	switch cfg.Credentials {
	case "file":
		return aws.NewCredentialsCache(fileCredentials(cfg.CredentialsFile)), nil
	case "environment":
		return aws.NewCredentialsCache(aws.CredentialsProviderFunc(fromEnvironment)), nil
	case "instance":
		return instanceCredentials(imds.New(imds.Options{
			// The first protocol of the metadata service, without a session, can
			// be reached through a program that is talked into a request.
			EnableFallback: aws.FalseTernary,
		})), nil
	}
	return nil, fmt.Errorf("snapshots.s3Credentials: must be one of %s; it is %q", strings.Join(config.S3Sources(), ", "), cfg.Credentials)
}

func instanceCredentials(client *imds.Client) aws.CredentialsProvider {
	return aws.NewCredentialsCache(ec2rolecreds.New(func(o *ec2rolecreds.Options) { o.Client = client }))
}

// fileCredentials reads the lines that Amazon's own programs have in
// ~/.aws/credentials, of one profile.
func fileCredentials(path string) aws.CredentialsProviderFunc {
	return func(context.Context) (aws.Credentials, error) {
		raw, err := config.ReadSecret(path, maxCredentials)
		if err != nil {
			return aws.Credentials{}, fmt.Errorf("snapshots.s3CredentialsFile: %w", err)
		}
		defer clear(raw)
		out, err := parseCredentials(raw)
		if err != nil {
			return out, fmt.Errorf("snapshots.s3CredentialsFile: %s %w", path, err)
		}
		return dated(out, "file"), nil
	}
}

// parseCredentials holds nothing of the file in its errors.
func parseCredentials(raw []byte) (aws.Credentials, error) {
	var out aws.Credentials
	fields := map[string]*string{"aws_access_key_id": &out.AccessKeyID, "aws_secret_access_key": &out.SecretAccessKey, "aws_session_token": &out.SessionToken}
	profiles := 0
	for line := range bytes.Lines(raw) {
		line = bytes.TrimSpace(line)
		if len(line) == 0 || line[0] == '#' || line[0] == ';' {
			continue
		}
		if line[0] == '[' {
			if profiles++; profiles > 1 {
				return aws.Credentials{}, errors.New("has more than one profile, and it would not be clear which is meant")
			}
			continue
		}
		name, value, found := bytes.Cut(line, []byte("="))
		field := fields[string(bytes.TrimSpace(name))]
		if !found || field == nil || *field != "" {
			return aws.Credentials{}, errors.New("may have the lines aws_access_key_id = …, aws_secret_access_key = … and aws_session_token = …, each once, and no others")
		}
		*field = string(bytes.TrimSpace(value))
	}
	if !out.HasKeys() {
		return aws.Credentials{}, errors.New("must have the lines aws_access_key_id = … and aws_secret_access_key = …")
	}
	return out, nil
}

func fromEnvironment(context.Context) (aws.Credentials, error) {
	out := aws.Credentials{AccessKeyID: os.Getenv("AWS_ACCESS_KEY_ID"), SecretAccessKey: os.Getenv("AWS_SECRET_ACCESS_KEY"), SessionToken: os.Getenv("AWS_SESSION_TOKEN")}
	if !out.HasKeys() {
		return aws.Credentials{}, errors.New("snapshots.s3Credentials: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY are not both in the environment of this process")
	}
	return dated(out, "environment"), nil
}

func dated(c aws.Credentials, source string) aws.Credentials {
	c.Source, c.CanExpire, c.Expires = source, true, time.Now().Add(reread)
	return c
}
