package config

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestABucketIsConfiguredWholeOrNotAtAll(t *testing.T) {
	good := Snapshots{Keep: 48, S3Bucket: "our-backups", S3Endpoint: "https://s3.example.com:9000", S3Region: "eu-1", S3Prefix: "a/b", S3Credentials: "file", S3CredentialsFile: "/etc/strongroom/s3"}
	var f faultList
	good.check(&f)
	require.Empty(t, f)
	for says, change := range map[string]func(*Snapshots){
		"snapshots.s3Bucket: and snapshots.dir are both set": func(s *Snapshots) { s.Dir = "/var/backups" },
		"snapshots.s3Bucket: must be 3 to 63":                func(s *Snapshots) { s.S3Bucket = "a/b" },
		"snapshots.s3Endpoint: is set without":               func(s *Snapshots) { s.S3Bucket = "" },
		"snapshots.s3Endpoint: must be https":                func(s *Snapshots) { s.S3Endpoint = "http://s3.example.com" },
		"snapshots.s3Prefix":                                 func(s *Snapshots) { s.S3Prefix = "../other" },
		"snapshots.s3Region":                                 func(s *Snapshots) { s.S3Region = "" },
		"snapshots.s3CredentialsFile: must be an absolute":   func(s *Snapshots) { s.S3CredentialsFile = "s3" },
		"snapshots.s3CredentialsFile: is set, and":           func(s *Snapshots) { s.S3Credentials = "instance" },
		"snapshots.s3Credentials: must be one of":            func(s *Snapshots) { s.S3Credentials, s.S3CredentialsFile = "guess", "" },
		"snapshots.keep: must be 0 to 10000":                 func(s *Snapshots) { s.Keep = -1 },
		"snapshots.keep: must be 1 to 10000":                 func(s *Snapshots) { *s = Snapshots{} },
	} {
		s, f := good, faultList(nil)
		change(&s)
		s.check(&f)
		require.NotEmpty(t, f, says)
		require.Contains(t, f[0], says)
	}
	for _, bad := range []string{"", "s3.example.com", "https://", "https://key:secret@s3.example.com", "https://s3.example.com/", "https://s3.example.com?x", "ftp://s3.example.com", "https://s3.example.com#x"} {
		require.False(t, goodEndpoint(bad), bad)
	}
	require.True(t, goodEndpoint("http://127.0.0.1:9000"))
}
