package config

import (
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

var (
	// What every store takes, dots left out: a name with one does not match the
	// certificate of its host.
	bucketPattern = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{1,61}[a-z0-9]$`)
	prefixPattern = regexp.MustCompile(`^[A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*$`)
	regionPattern = regexp.MustCompile(`^[a-z0-9-]{1,64}$`)
)

const maxPrefix = 200

// S3Sources are the values of snapshots.s3Credentials.
func S3Sources() []string { return []string{"file", "environment", "instance"} }

func (s Snapshots) check(f *faultList) {
	f.check(s.Dir == "" || filepath.IsAbs(s.Dir), "snapshots.dir", "must be empty or an absolute path; it is %q", s.Dir)
	if s.S3Bucket == "" {
		f.check(1 <= s.Keep && s.Keep <= 10_000, "snapshots.keep", "must be 1 to 10000; it is %d", s.Keep)
		for _, one := range []struct{ name, value string }{{"s3Endpoint", s.S3Endpoint}, {"s3Prefix", s.S3Prefix}, {"s3CAFile", s.S3CAFile}, {"s3CredentialsFile", s.S3CredentialsFile}} {
			f.check(one.value == "", "snapshots."+one.name, "is set without snapshots.s3Bucket")
		}
		return
	}
	f.check(s.Dir == "", "snapshots.s3Bucket", "and snapshots.dir are both set; a node saves to one place, another node may save to another")
	f.check(0 <= s.Keep && s.Keep <= 10_000, "snapshots.keep", "must be 0 to 10000; it is %d", s.Keep)
	f.check(bucketPattern.MatchString(s.S3Bucket), "snapshots.s3Bucket", "must be 3 to 63 of a-z 0-9 and -, with a letter or a digit at both ends; it is %q", s.S3Bucket)
	f.check(goodEndpoint(s.S3Endpoint), "snapshots.s3Endpoint", "must be https://host, with :port if it is not 443, and nothing behind; http only on this machine")
	f.check(regionPattern.MatchString(s.S3Region), "snapshots.s3Region", "must be 1 to 64 of a-z 0-9 and -; it is %q", s.S3Region)
	f.check(s.S3Prefix == "" || len(s.S3Prefix) <= maxPrefix && prefixPattern.MatchString(s.S3Prefix), "snapshots.s3Prefix",
		"must be names of A-Z a-z 0-9 . _ and - with slashes between them, none of which begins with a dot, %d characters at most; it is %q", maxPrefix, s.S3Prefix)
	f.check(s.S3CAFile == "" || filepath.IsAbs(s.S3CAFile), "snapshots.s3CAFile", "must be empty or an absolute path; it is %q", s.S3CAFile)
	f.check(slices.Contains(S3Sources(), s.S3Credentials), "snapshots.s3Credentials", "must be one of %s; it is %q", strings.Join(S3Sources(), ", "), s.S3Credentials)
	if s.S3Credentials == "file" {
		f.check(filepath.IsAbs(s.S3CredentialsFile), "snapshots.s3CredentialsFile", "must be an absolute path; it is %q", s.S3CredentialsFile)
	} else {
		f.check(s.S3CredentialsFile == "", "snapshots.s3CredentialsFile", "is set, and snapshots.s3Credentials is not file")
	}
}

// goodEndpoint: nothing of it may be a secret, as it is in errors and logs.
func goodEndpoint(text string) bool {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.Path != "" || u.RawQuery != "" || u.ForceQuery || u.User != nil || u.Fragment != "" {
		return false
	}
	local := slices.Contains([]string{"localhost", "127.0.0.1", "::1"}, u.Hostname())
	return u.Scheme == "https" || u.Scheme == "http" && local
}

// files answers the files that s names.
func (s Snapshots) files() []namedFile {
	var out []namedFile
	for _, one := range []namedFile{{"snapshots.s3CAFile", s.S3CAFile, false}, {"snapshots.s3CredentialsFile", s.S3CredentialsFile, true}} {
		if one.path != "" {
			out = append(out, one)
		}
	}
	return out
}
