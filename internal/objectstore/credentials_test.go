package objectstore

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/feature/ec2/imds"
	"github.com/stretchr/testify/require"

	"github.com/strongroom/strongroom/test/objectstore"
)

func TestCredentialsOfAFileAreReadStrictly(t *testing.T) {
	got, err := parseCredentials([]byte("# ours\n[strongroom]\naws_access_key_id=ID\n aws_secret_access_key = a=b+/ \naws_session_token = T\n"))
	require.NoError(t, err)
	require.Equal(t, aws.Credentials{AccessKeyID: "ID", SecretAccessKey: "a=b+/", SessionToken: "T"}, got)
	const marked = "marked-secret-31"
	for _, text := range []string{
		"", marked, "aws_access_key_id=ID\n", "aws_secret_access_key=" + marked + "\n",
		"aws_access_key_id=ID\naws_secret_access_key=" + marked + "\naws_secret_access_key=" + marked + "\n",
		"[a]\naws_access_key_id=ID\naws_secret_access_key=" + marked + "\n[b]\n", "aws_access_key_id=ID\naws_secret_access_key=" + marked + "\nregion=x\n",
	} {
		_, err := parseCredentials([]byte(text))
		require.Error(t, err, "%q", text)
		require.NotContains(t, err.Error(), marked)
	}

	path := objectstore.Credentials(t, marked)
	got, err = fileCredentials(path).Retrieve(t.Context())
	require.NoError(t, err)
	require.Equal(t, marked, got.SecretAccessKey)
	require.True(t, got.CanExpire, "the file is read again")
	require.NoError(t, os.Chmod(path, 0o644))
	_, err = fileCredentials(path).Retrieve(t.Context())
	require.ErrorContains(t, err, "snapshots.s3CredentialsFile")
	require.NotContains(t, err.Error(), marked)
}

func TestCredentialsOfTheEnvironment(t *testing.T) {
	t.Setenv("AWS_ACCESS_KEY_ID", "")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "s")
	_, err := fromEnvironment(t.Context())
	require.ErrorContains(t, err, "AWS_ACCESS_KEY_ID")
	t.Setenv("AWS_ACCESS_KEY_ID", "ID")
	t.Setenv("AWS_SESSION_TOKEN", "T")
	got, err := fromEnvironment(t.Context())
	require.NoError(t, err)
	require.Equal(t, []string{"ID", "s", "T"}, []string{got.AccessKeyID, got.SecretAccessKey, got.SessionToken})
	_, err = credentialsFor(Config{Credentials: "guess"})
	require.ErrorContains(t, err, "must be one of file, environment, instance")
}

// The role of an instance comes by the metadata service's second protocol, and
// never by the first, which any program can be talked into.
func TestCredentialsOfAnInstance(t *testing.T) {
	for _, second := range []bool{true, false} {
		service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			const session = "session-of-the-service"
			switch {
			case r.URL.Path == "/latest/api/token" && r.Method == http.MethodPut && second:
				w.Header().Set("X-Aws-Ec2-Metadata-Token-Ttl-Seconds", "600")
				fmt.Fprint(w, session)
			case r.URL.Path == "/latest/api/token", second && r.Header.Get("X-Aws-Ec2-Metadata-Token") != session:
				w.WriteHeader(http.StatusForbidden)
			case r.URL.Path == "/latest/meta-data/iam/security-credentials/":
				fmt.Fprint(w, "backups")
			default:
				fmt.Fprint(w, `{"Code":"Success","Type":"AWS-HMAC","AccessKeyId":"ID","SecretAccessKey":"s","Token":"T","Expiration":"2999-01-01T00:00:00Z"}`)
			}
		}))
		client := imds.New(imds.Options{Endpoint: service.URL, EnableFallback: aws.FalseTernary, Retryer: aws.NopRetryer{}})
		got, err := instanceCredentials(client).Retrieve(t.Context())
		service.Close()
		if !second {
			require.Error(t, err)
			continue
		}
		require.NoError(t, err)
		require.Equal(t, []string{"ID", "s", "T"}, []string{got.AccessKeyID, got.SecretAccessKey, got.SessionToken})
	}
}
