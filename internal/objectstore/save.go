package objectstore

import (
	"context"
	"crypto/md5" //nolint:gosec // against a network that flips bits; who means harm meets the backup's own authentication
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/strongroom/strongroom/internal/backup"
)

// Save uploads what write writes, and answers it as List would. Until the last
// request has been answered the store shows no object: one that dies in
// between, or loses this node, has no half backup, only parts that nobody
// lists. Those are taken back at once, or by the next Save.
func (b *Bucket) Save(ctx context.Context, at time.Time, index uint64, write func(io.Writer) error) (backup.Saved, error) {
	key := b.folder() + backup.Name(at, index)
	if err := b.absent(ctx, key); err != nil {
		return backup.Saved{}, err
	}
	if err := b.clear(ctx); err != nil {
		return backup.Saved{}, err
	}
	u := &upload{b: b, ctx: ctx, key: key, buf: make([]byte, 0, b.part)}
	err := write(u)
	if err == nil {
		err = u.finish()
	}
	if err != nil {
		return backup.Saved{}, errors.Join(err, u.abort())
	}
	return backup.Saved{Path: b.url(key), At: at.UTC().Truncate(time.Second), Size: u.size}, nil
}

// absent holds the name against what is there: a backup replaces none. Between
// this look and the upload nobody else writes this node's names.
func (b *Bucket) absent(ctx context.Context, key string) error {
	ctx, done := b.bounded(ctx)
	defer done()
	listed, err := b.client.ListObjectsV2(ctx, &s3.ListObjectsV2Input{Bucket: &b.cfg.Bucket, Prefix: &key, MaxKeys: aws.Int32(1)})
	if err != nil {
		return b.fault("save a backup", err)
	}
	if len(listed.Contents) > 0 {
		return fmt.Errorf("%s is there already, and is not replaced", b.url(key))
	}
	return nil
}

// clear takes back what uploads of this node left that did not come to their
// end. They are of an earlier life of the node: one has one upload at a time.
func (b *Bucket) clear(ctx context.Context) error {
	prefix := b.folder()
	requestCtx, done := b.bounded(ctx)
	defer done()
	left, err := b.client.ListMultipartUploads(requestCtx, &s3.ListMultipartUploadsInput{Bucket: &b.cfg.Bucket, Prefix: &prefix})
	if isCode(err, "AccessDenied", "NotImplemented", "MethodNotAllowed", "NoSuchUpload") {
		// Some stores have no list, or none to show while it is empty; a rule of
		// the bucket may do it instead (docs/backup.md).
		return nil
	}
	if err != nil {
		return b.fault("look for unfinished uploads", err)
	}
	for _, u := range left.Uploads {
		if _, err := b.client.AbortMultipartUpload(requestCtx, &s3.AbortMultipartUploadInput{Bucket: &b.cfg.Bucket, Key: u.Key, UploadId: u.UploadId}); err != nil && !isCode(err, "NoSuchUpload", "AccessDenied") {
			return b.fault("take back an unfinished upload", err)
		}
	}
	return nil
}

// upload is an io.Writer that sends parts as they become full. What fits into
// one goes in one request.
type upload struct {
	b     *Bucket
	ctx   context.Context
	key   string
	id    *string
	parts []types.CompletedPart
	buf   []byte
	size  int64
}

// Write implements io.Writer.
func (u *upload) Write(p []byte) (int, error) {
	n := 0
	for len(p) > 0 {
		if len(u.buf) == cap(u.buf) {
			if err := u.sendPart(); err != nil {
				return n, err
			}
		}
		took := min(len(p), cap(u.buf)-len(u.buf))
		u.buf = append(u.buf, p[:took]...)
		p, n = p[took:], n+took
		u.size += int64(took)
	}
	return n, nil
}

func (u *upload) sum() *string {
	sum := md5.Sum(u.buf) //nolint:gosec // see the import
	return aws.String(base64.StdEncoding.EncodeToString(sum[:]))
}

func (u *upload) sendPart() error {
	if len(u.parts) == maxParts {
		return fmt.Errorf("the backup is larger than the %d parts of %d bytes that one object may have", maxParts, u.b.part)
	}
	if u.id == nil {
		ctx, done := u.b.bounded(u.ctx)
		made, err := u.b.client.CreateMultipartUpload(ctx, &s3.CreateMultipartUploadInput{Bucket: &u.b.cfg.Bucket, Key: &u.key, ContentType: aws.String(contentType)})
		done()
		if err != nil {
			return u.b.fault("begin an upload", err)
		}
		u.id = made.UploadId
	}
	number := aws.Int32(int32(len(u.parts) + 1))
	ctx, body, done := u.b.sending(u.ctx, u.buf)
	defer done()
	sent, err := u.b.client.UploadPart(ctx, &s3.UploadPartInput{
		Bucket: &u.b.cfg.Bucket, Key: &u.key, UploadId: u.id, PartNumber: number, Body: body, ContentMD5: u.sum(), ContentLength: aws.Int64(int64(len(u.buf))),
	})
	if err != nil {
		return u.b.fault("upload a part", body.idle.why(err))
	}
	u.parts = append(u.parts, types.CompletedPart{PartNumber: number, ETag: sent.ETag})
	u.buf = u.buf[:0]
	return nil
}

const contentType = "application/octet-stream"

func (u *upload) finish() error {
	if u.id == nil {
		ctx, body, done := u.b.sending(u.ctx, u.buf)
		defer done()
		_, err := u.b.client.PutObject(ctx, &s3.PutObjectInput{
			Bucket: &u.b.cfg.Bucket, Key: &u.key, Body: body, ContentMD5: u.sum(), ContentLength: aws.Int64(int64(len(u.buf))), ContentType: aws.String(contentType),
		})
		return u.b.fault("upload the backup", body.idle.why(err))
	}
	if len(u.buf) > 0 {
		if err := u.sendPart(); err != nil {
			return err
		}
	}
	// The store may put many parts together before it answers.
	ctx, cancel := context.WithTimeout(u.ctx, 10*u.b.stall)
	defer cancel()
	_, err := u.b.client.CompleteMultipartUpload(ctx, &s3.CompleteMultipartUploadInput{
		Bucket: &u.b.cfg.Bucket, Key: &u.key, UploadId: u.id, MultipartUpload: &types.CompletedMultipartUpload{Parts: u.parts},
	})
	return u.b.fault("end an upload", err)
}

// abort takes the parts back. It is tried once, also when the context that the
// upload was under has ended; what it cannot do the next Save does.
func (u *upload) abort() error {
	if u.id == nil {
		return nil
	}
	ctx, done := u.b.bounded(context.WithoutCancel(u.ctx))
	defer done()
	_, err := u.b.client.AbortMultipartUpload(ctx, &s3.AbortMultipartUploadInput{Bucket: &u.b.cfg.Bucket, Key: &u.key, UploadId: u.id}, func(o *s3.Options) { o.RetryMaxAttempts = 1 })
	return u.b.fault("take the upload back", err)
}
