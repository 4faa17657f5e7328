// Package objectstore keeps backups in a bucket of an S3-compatible store. It
// implements engine.BackupStore, and knows nothing of what is in a backup: that
// is encrypted and authenticated before it comes here, so the store, and who
// sits between, can lose backups and nothing else.
package objectstore

import (
	"context"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/strongroom/strongroom/internal/backup"
)

// Config says where a node keeps its backups.
type Config struct {
	// Endpoint is https://host[:port], or http on this machine.
	Endpoint string
	Region   string
	Bucket   string
	// Prefix stands before the names, without a slash at either end; may be
	// empty.
	Prefix string
	// PathStyle puts the bucket into the path of the URL, not before the host.
	PathStyle bool
	CAFile    string // authorities of the endpoint, PEM; empty: those of the system
	// Credentials is one of config.S3Sources.
	Credentials     string
	CredentialsFile string
	// Owner is cluster and node: nobody else's backups are listed, overwritten
	// or removed, also in a bucket and under a prefix that several share.
	ClusterID, Node string
}

// Bucket is a place of backups. It may be used by several goroutines.
type Bucket struct {
	cfg    Config
	client *s3.Client
	// stall bounds how long a request may go without a byte moving.
	stall time.Duration
	part  int // bytes of one part of an upload
}

const (
	defaultStall = 30 * time.Second
	// partBytes times the 10,000 parts that the protocol allows is 156 GiB. One
	// is in memory at a time.
	partBytes = 16 << 20
	maxParts  = 10_000
	// mostListed bounds what one look at a bucket takes in.
	mostListed = 100_000
	scheme     = "s3://"
)

// New makes a Bucket. It reads the authorities and asks nobody; credentials are
// read when they are needed, and again when they may have changed.
func New(cfg Config) (*Bucket, error) {
	h, err := httpClient(cfg.CAFile)
	if err != nil {
		return nil, err
	}
	creds, err := credentialsFor(cfg)
	if err != nil {
		return nil, err
	}
	client := s3.New(s3.Options{
		Region: cfg.Region, BaseEndpoint: aws.String(cfg.Endpoint), UsePathStyle: cfg.PathStyle, Credentials: creds, HTTPClient: h,
		// Newer checksums come as trailers, which many compatible stores refuse.
		// Uploads carry Content-MD5, which all of them check (save.go).
		RequestChecksumCalculation:  aws.RequestChecksumCalculationWhenRequired,
		ResponseChecksumValidation:  aws.ResponseChecksumValidationWhenRequired,
		DisableS3ExpressSessionAuth: aws.Bool(true),
		RetryMaxAttempts:            3,
	})
	return &Bucket{cfg: cfg, client: client, stall: defaultStall, part: partBytes}, nil
}

// folder is what all keys of this node begin with.
func (b *Bucket) folder() string {
	return strings.TrimPrefix(path.Join(b.cfg.Prefix, b.cfg.ClusterID, b.cfg.Node)+"/", "/")
}

// String names the place for people.
func (b *Bucket) String() string { return scheme + b.cfg.Bucket + "/" + b.folder() }

func (b *Bucket) url(key string) string { return scheme + b.cfg.Bucket + "/" + key }

// List answers the backups of this node, the newest first.
func (b *Bucket) List(ctx context.Context) ([]backup.Saved, error) {
	return b.list(ctx, b.folder())
}

// ListCluster answers the backups of all nodes of the cluster, the newest
// first.
func (b *Bucket) ListCluster(ctx context.Context) ([]backup.Saved, error) {
	return b.list(ctx, strings.TrimPrefix(path.Join(b.cfg.Prefix, b.cfg.ClusterID)+"/", "/"))
}

func (b *Bucket) list(ctx context.Context, prefix string) ([]backup.Saved, error) {
	pages := s3.NewListObjectsV2Paginator(b.client, &s3.ListObjectsV2Input{Bucket: &b.cfg.Bucket, Prefix: &prefix})
	var out []backup.Saved
	for pages.HasMorePages() {
		requestCtx, done := b.bounded(ctx)
		page, err := pages.NextPage(requestCtx)
		done()
		if err != nil {
			return nil, b.fault("list the backups", err)
		}
		for _, o := range page.Contents {
			if at, ours := backup.SavedAt(path.Base(aws.ToString(o.Key))); ours {
				out = append(out, backup.Saved{Path: b.url(aws.ToString(o.Key)), At: at, Size: aws.ToInt64(o.Size)})
			}
		}
		if len(out) > mostListed {
			return nil, fmt.Errorf("%s has more than %d backups below %s", b.cfg.Bucket, mostListed, prefix)
		}
	}
	slices.SortStableFunc(out, func(a, c backup.Saved) int { return c.At.Compare(a.At) })
	return out, nil
}

// Open reads a backup by the URL that Save or List answered. What is read is
// proven by nothing but the backup itself.
func (b *Bucket) Open(ctx context.Context, location string) (io.ReadCloser, error) {
	key, err := b.key(location)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	idle := newIdle(b.stall, cancel)
	got, err := b.client.GetObject(ctx, &s3.GetObjectInput{Bucket: &b.cfg.Bucket, Key: &key})
	if err != nil {
		idle.stop()
		cancel()
		return nil, b.fault("read "+location, idle.why(err))
	}
	return &object{body: got.Body, idle: idle, cancel: cancel, bucket: b, location: location}, nil
}

// Remove removes a backup. In a bucket with versions it becomes an older one;
// see docs/backup.md.
func (b *Bucket) Remove(ctx context.Context, location string) error {
	key, err := b.key(location)
	if err != nil {
		return err
	}
	ctx, done := b.bounded(ctx)
	defer done()
	_, err = b.client.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: &b.cfg.Bucket, Key: &key})
	return b.fault("remove "+location, err)
}

// key answers the key of a URL, which must be one of this bucket.
func (b *Bucket) key(location string) (string, error) {
	bucket, key, err := Split(location)
	if err != nil {
		return "", err
	}
	if bucket != b.cfg.Bucket {
		return "", fmt.Errorf("%s is in another bucket than %s, which snapshots.s3Bucket names", location, b.cfg.Bucket)
	}
	return key, nil
}

// Is says whether a text names a backup in a bucket and not a file.
func Is(location string) bool { return strings.HasPrefix(location, scheme) }

// Split reads s3://bucket/key.
func Split(location string) (bucket, key string, err error) {
	rest, is := strings.CutPrefix(location, scheme)
	bucket, key, found := strings.Cut(rest, "/")
	if !is || !found || bucket == "" || key == "" || strings.HasSuffix(key, "/") || strings.ContainsFunc(location, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return "", "", fmt.Errorf("%q is no s3://bucket/key", location)
	}
	return bucket, key, nil
}
