package main

import (
	"encoding/base64"
	"fmt"
	"reflect"

	"github.com/spf13/cobra"

	"github.com/strongroom/strongroom/api/wire"
	"github.com/strongroom/strongroom/client"
	"github.com/strongroom/strongroom/engine"
	"github.com/strongroom/strongroom/internal/fault"
)

// find answers an operation that a short form stands for.
func find(service, name string) *engine.Operation {
	op := engine.Find(service, name)
	if op == nil {
		panic("strongroom: there is no operation " + service + "/" + name) // a test builds all commands
	}
	return op
}

// short makes a short form with the operation's own summary.
func short(use, service, name string, args ...string) opForm {
	op := find(service, name)
	return opForm{op: op, use: use, short: op.Summary, args: args}
}

func addShortForms(root *cobra.Command, groups map[string]*cobra.Command) {
	add := func(id, name, text string, forms ...opForm) {
		cmd := group(name, text)
		cmd.GroupID = id
		for _, f := range forms {
			cmd.AddCommand(f.command())
		}
		root.AddCommand(cmd)
	}
	add(groupDaily, "secret", "Put, get, generate and browse secrets", secretForms()...)
	add(groupDaily, "key", "Make and use KMS keys", keyForms()...)
	add(groupDaily, "path-rule", "Law for the secrets below a prefix", pathRuleForms()...)
	who := short("whoami", "iam", "whoAmI")
	cmd := who.command()
	cmd.GroupID = groupDaily
	root.AddCommand(cmd)
	leave := short("logout", "iam", "logout").command()
	leave.GroupID = groupRights
	root.AddCommand(leave)

	add(groupRights, "principal", "Users and services",
		short("create", "iam", "createPrincipal", "name"), paged(short("ls", "iam", "listPrincipals")),
		short("describe", "iam", "describePrincipal", "name"), short("delete", "iam", "deletePrincipal", "name"),
		short("quarantine", "iam", "quarantinePrincipal", "principal"), short("release", "iam", "releasePrincipal", "principal"))
	add(groupRights, "token", "Credentials of principals", tokenForms()...)
	add(groupRights, "access-key", "Credentials that sign requests", accessKeyForms()...)
	addDecisionForms(root)
	incident := incidentForm().command()
	incident.GroupID = groupRights
	root.AddCommand(incident)
	add(groupRights, "canary", "Secrets that nobody has a reason to read",
		withExample(short("set", "secrets", "setCanary", "path"), `  strongroom canary set /app/prod/legacy/root-password --canary --reason "in the wiki of 2019"`), paged(short("ls", "secrets", "listCanaries")))
	add(groupRights, "detectors", "How unusual behaviour is noticed", short("show", "audit", "describeDetectors"),
		withExample(short("put", "audit", "putDetectors"), `  strongroom detectors put --rules '[{"detector":"canary","quarantine":true}]' --reason "ticket 7"`))
	add(groupRights, "policy", "What principals may do", append(reviewForms(),
		withExample(short("put", "iam", "putPolicy", "name"), `  strongroom policy put web-values --statements '[{"effect":"allow","roles":["secrets-value-access"],"paths":["/app/dev/web/**"]}]'`),
		short("get", "iam", "getPolicy", "name"), paged(short("ls", "iam", "listPolicies")), short("delete", "iam", "deletePolicy", "name"),
		short("attach", "iam", "attachPolicy", "policy", "principal"), short("detach", "iam", "detachPolicy", "policy", "principal"))...)
	add(groupRights, "approval", "Requests that other people must approve", approvalForms()...)
	add(groupRights, "rate-limit", "How often something may be done",
		withExample(short("put", "iam", "putRateLimit", "name"), `  strongroom rate-limit put readers --kind valueReads --per principal --count 600 --period 1m --burst 100`),
		paged(short("ls", "iam", "listRateLimits")), short("delete", "iam", "deleteRateLimit", "name"))
	add(groupRights, "trust", "Whose JWTs and certificates are taken for who somebody is",
		withExample(short("put", "iam", "putTrust", "name"), `  strongroom trust put ci --kind jwt --issuer https://token.actions.githubusercontent.com --audiences strongroom --claims repository=acme/web --claims ref=refs/heads/main --principal svc-deploy`),
		short("get", "iam", "getTrust", "name"), paged(short("ls", "iam", "listTrusts")), short("delete", "iam", "deleteTrust", "name"))
	add(groupRights, "access-policy", "From where and when secrets may be reached, whatever policies allow",
		withExample(short("put", "iam", "putAccessPolicy", "name"), `  strongroom access-policy put office --paths '/app/prod/**' --source-cidrs 10.0.0.0/8`),
		short("get", "iam", "getAccessPolicy", "name"), paged(short("ls", "iam", "listAccessPolicies")), short("delete", "iam", "deleteAccessPolicy", "name"))

	add(groupRights, "break-glass", "What is allowed in emergencies, and what is to be done afterwards", glassForms()...)

	saved := snapshotCommand()
	saved.GroupID = groupRights
	root.AddCommand(saved)
	groups["cluster"].AddCommand(
		recoverCommand(),
		withExample(short("add", "cluster", "addMember", "nodeId", "address"), "  strongroom cluster add node4 10.0.0.4:7401\n  strongroom cluster add replica1 10.0.0.9:7401 --voter=false").command(),
		withExample(short("remove", "cluster", "removeMember", "nodeId"), `  strongroom cluster remove node2 --reason "its disk died"`).command(),
		withExample(short("vote", "cluster", "setVoter", "nodeId"), "  strongroom cluster vote node3 --voter=false").command(),
		withExample(short("autopilot", "cluster", "setAutopilot"), "  strongroom cluster autopilot --remove-dead-after 24h --min-voters 3").command(),
		joinTokenForms())
	for _, f := range auditForms() {
		groups["audit"].AddCommand(f.command())
	}
	groups["audit"].AddCommand(auditTraceCommand(), auditVerifyCommand(), auditWitnessCommand())
}

// joinTokenForms are about tokens that let nodes join.
func joinTokenForms() *cobra.Command {
	cmd := group("join-token", "Tokens that let one node join, once")
	var file string
	create := withExample(short("create", "cluster", "createJoinToken"), "  strongroom cluster join-token create --node-id node4 --out node4.join-token")
	create.short = "Make a token that lets one node join, once; prints its text, which is shown only this once"
	create.extra = func(cmd *cobra.Command) {
		cmd.Flags().StringVar(&file, "out", "", "write the text to this new file, mode 0600, instead")
	}
	create.show = func(s *session, resp any) error {
		r := resp.(*wire.CreateJoinTokenResponse)
		fmt.Fprintf(s.errOut, "join token %s, good once, until %s\n", printable(r.TokenID), cell(reflect.ValueOf(r.ExpiresAt)))
		if file != "" {
			return writeToken(file, r.Token.Bytes)
		}
		_, err := fmt.Fprintf(s.out, "%s\n", r.Token.Expose())
		return err
	}
	for _, f := range []opForm{create, paged(short("ls", "cluster", "listJoinTokens")), short("revoke", "cluster", "revokeJoinToken", "tokenId")} {
		cmd.AddCommand(f.command())
	}
	return cmd
}

func withExample(f opForm, example string) opForm {
	f.example = example
	return f
}

// paged follows a list to its end: a person wants all of it.
func paged(f opForm) opForm {
	f.all = true
	return f
}

func secretForms() []opForm {
	list := paged(short("ls", "secrets", "listSecrets", "prefix"))
	list.optional = 1
	get := withExample(short("get", "secrets", "getSecretValue", "path"), "  strongroom secret get /app/dev/web/db-password\n  strongroom secret get /app/dev/web/db-password --version 1 -o json")
	get.short = "Print one value, bytes as they are"
	get.show = func(s *session, resp any) error {
		r := resp.(*wire.GetSecretValueResponse)
		if r.NotModified {
			fmt.Fprintf(s.errOut, "not modified: version %d is still the one\n", r.Version)
			return nil
		}
		return showRaw(s.out, r.Value.Expose())
	}
	generate := withExample(short("generate", "secrets", "generateSecret", "path"), "  strongroom secret generate /app/dev/web/db-password --create --kind password --length 40\n  strongroom secret generate /app/dev/web/tls-key --create --kind ec -o json   # answers the public key")
	generate.show = func(s *session, resp any) error {
		r := *resp.(*wire.GenerateSecretResponse)
		public := r.PublicKey
		r.PublicKey = ""
		if err := showTable(s, &r); err != nil || public == "" {
			return err
		}
		return showRaw(s.out, []byte(public))
	}
	return []opForm{
		withExample(short("create", "secrets", "createSecret", "path"), `  strongroom secret create /app/dev/web/db-password --description "main database"`),
		putForm(), get, generate, list,
		paged(short("versions", "secrets", "listSecretVersions", "path")), short("describe", "secrets", "describeSecret", "path"),
		withExample(short("label", "secrets", "setVersionLabel", "path", "label"), `  strongroom secret label /app/dev/web/db-password current --version 3   # activates it, or rolls back to it`),
		short("unlabel", "secrets", "removeVersionLabel", "path", "label"),
		short("disable", "secrets", "disableVersion", "path"), short("enable", "secrets", "enableVersion", "path"),
		short("update", "secrets", "updateSecret", "path"),
		short("rotate-now", "secrets", "rotateSecret", "path"), short("cancel-rotation", "secrets", "cancelRotation", "path"),
		paged(withExample(short("consumers", "secrets", "listConsumers", "path"), "  strongroom secret consumers /app/dev/web/db-password --version 3 --holding")),
		short("confirm", "secrets", "confirmVersion", "path"), rotateForm(),
		short("destroy", "secrets", "destroyVersion", "path"), short("cancel-destroy", "secrets", "cancelDestroyVersion", "path"),
		short("compromised", "secrets", "markCompromised", "path"), short("delete", "secrets", "deleteSecret", "path"), short("restore", "secrets", "restoreSecret", "path"),
		short("bind-key", "secrets", "bindKey", "path", "kmsKeyId"),
	}
}

func pathRuleForms() []opForm {
	list, lint := paged(short("ls", "secrets", "listPathRules", "prefix")), paged(short("lint", "secrets", "lintPaths", "prefix"))
	list.optional, lint.optional = 1, 1
	return []opForm{
		withExample(short("put", "secrets", "putPathRule", "prefix"), `  strongroom path-rule put /app/ --segments '{env:dev|staging|prod},{service},{name}' --required-tags owner --keep-versions 5`),
		list, short("delete", "secrets", "deletePathRule", "prefix"),
		withExample(lint, `  strongroom path-rule lint /app/ --rule '{"requiredTags":["owner"]}'   # before it is law`),
	}
}

// putForm is putSecretValue, with the way to make the secret in one go.
func putForm() opForm {
	f := withExample(short("put", "secrets", "putSecretValue", "path"), `  strongroom secret put /app/dev/web/db-password                      # asks for the value
  printf %s "$VALUE" | strongroom secret put /app/dev/web/db-password --create
  strongroom secret put /app/dev/web/tls-key --value-file key.pem`)
	f.extra = func(cmd *cobra.Command) {
		cmd.Flags().Bool("create", false, "make the secret if it is not there")
		cmd.Flags().String("kms-key-id", "", "with --create: the KMS key to bind to (default that of the path rule, else alias/default)")
		cmd.Flags().StringToString("tags", nil, "with --create: tags of the secret, NAME=VALUE")
		cmd.Flags().String("description", "", "with --create: for people")
	}
	f.asks = true
	f.send = func(cmd *cobra.Command, s *session, req, resp any) error {
		put := req.(*wire.PutSecretValueRequest)
		err := s.do(cmd.Context(), put, resp)
		create, flagErr := cmd.Flags().GetBool("create")
		if flagErr != nil || !client.IsCode(err, fault.NotFound) {
			return err
		}
		if !create {
			return hintError{err, "strongroom secret put --create makes the secret too"}
		}
		err = createWith(cmd, s, put, resp.(*wire.PutSecretValueResponse))
		if client.IsCode(err, fault.AlreadyExists) { // somebody was faster, or its path is retired
			if again := s.do(cmd.Context(), put, resp); !client.IsCode(again, fault.NotFound) {
				return again
			}
		}
		return err
	}
	return f
}

func createWith(cmd *cobra.Command, s *session, put *wire.PutSecretValueRequest, resp *wire.PutSecretValueResponse) error {
	if put.ExpectedVersion != nil && *put.ExpectedVersion != 0 || put.Activate != nil && !*put.Activate {
		return usagef("--create does not go with --expected-version above 0 or --activate=false")
	}
	key, err := cmd.Flags().GetString("kms-key-id")
	if err != nil {
		return err
	}
	description, err := cmd.Flags().GetString("description")
	if err != nil {
		return err
	}
	tags, err := cmd.Flags().GetStringToString("tags")
	if err != nil {
		return err
	}
	if len(tags) == 0 {
		tags = nil
	}
	var made wire.CreateSecretResponse
	err = s.Do(cmd.Context(), "secrets", "createSecret", &wire.CreateSecretRequest{
		Path: put.Path, Value: put.Value, ContentType: put.ContentType, VersionLife: put.VersionLife, KMSKeyID: key, Description: description, Tags: tags,
	}, &made)
	if err != nil {
		return err
	}
	resp.Path, resp.VersionID, resp.Labels = made.Path, made.VersionID, []string{"current"}
	if made.Version != nil {
		resp.Version = *made.Version
	}
	return nil
}

func keyForms() []opForm {
	encrypt := withExample(short("encrypt", "kms", "encrypt", "keyId"), "  printf %s \"$TEXT\" | strongroom key encrypt alias/default --context app=web > text.sealed")
	encrypt.short = "Seal up to 4 KiB of standard input; prints the ciphertext in base64"
	encrypt.show = func(s *session, resp any) error {
		_, err := fmt.Fprintln(s.out, base64.StdEncoding.EncodeToString(resp.(*wire.EncryptResponse).Ciphertext))
		return err
	}
	decrypt := withExample(short("decrypt", "kms", "decrypt"), "  strongroom key decrypt --context app=web < text.sealed")
	decrypt.short = "Open a ciphertext from standard input; prints the plaintext, bytes as they are"
	decrypt.show = func(s *session, resp any) error {
		return showRaw(s.out, resp.(*wire.DecryptResponse).Plaintext.Expose())
	}
	public := withExample(short("public-key", "kms", "getPublicKey", "keyId"), "  strongroom key public-key alias/signing > signing.pem")
	public.short = "Print the public half of a key as PEM"
	public.show = func(s *session, resp any) error {
		return showRaw(s.out, []byte(resp.(*wire.GetPublicKeyResponse).PublicKey))
	}
	sign := withExample(short("sign", "kms", "sign", "keyId"), "  strongroom key sign alias/signing < message > message.sig")
	sign.short = "Sign up to 64 KiB of standard input; prints the signature in base64"
	sign.show = func(s *session, resp any) error {
		_, err := fmt.Fprintln(s.out, base64.StdEncoding.EncodeToString(resp.(*wire.SignResponse).Signature))
		return err
	}
	return []opForm{
		public, sign, withExample(short("verify", "kms", "verify", "keyId"), "  strongroom key verify alias/signing --signature \"$(cat message.sig)\" < message"),
		withExample(short("create", "kms", "createKey"), "  strongroom key create --alias alias/pay"),
		paged(short("ls", "kms", "listKeys")), short("describe", "kms", "describeKey", "keyId"),
		short("disable", "kms", "disableKey", "keyId"), short("enable", "kms", "enableKey", "keyId"),
		paged(short("bound", "kms", "listBoundSecrets", "keyId")), encrypt, decrypt,
		paged(short("health", "kms", "getKeyHealth")),
		short("rotate", "kms", "rotateKey", "keyId"), paged(short("versions", "kms", "listKeyVersions", "keyId")),
		withExample(short("rotation", "kms", "setKeyRotation", "keyId"), "  strongroom key rotation alias/pay --period 90d"),
		withExample(short("migrate", "kms", "migrateBoundSecrets", "fromKeyId", "toKeyId"), "  strongroom key migrate alias/pay alias/pay-2"),
		withExample(short("retire", "kms", "retireKey", "keyId"), "  strongroom key retire alias/pay --to-key-id alias/pay-2"),
		withExample(short("delete", "kms", "scheduleKeyDeletion", "keyId"), "  strongroom key delete alias/pay --waiting-period 30d --reason \"service is gone\""),
		short("undelete", "kms", "cancelKeyDeletion", "keyId"),
		short("job", "cluster", "describeJob", "jobId"),
	}
}

func tokenForms() []opForm {
	var file string
	create := withExample(short("create", "iam", "createToken", "principal"), "  strongroom token create web --ttl 30d --out web.token")
	create.short = "Make a token; prints its text, which is shown only this once"
	create.extra = func(cmd *cobra.Command) {
		cmd.Flags().StringVar(&file, "out", "", "write the text to this new file, mode 0600, instead")
	}
	create.show = func(s *session, resp any) error {
		r := resp.(*wire.CreateTokenResponse)
		fmt.Fprintf(s.errOut, "token %s, valid until %s\n", printable(r.TokenID), cell(reflect.ValueOf(r.ExpiresAt)))
		if file != "" {
			return writeToken(file, r.Token.Bytes)
		}
		_, err := fmt.Fprintf(s.out, "%s\n", r.Token.Expose())
		return err
	}
	list := paged(short("ls", "iam", "listTokens", "principal"))
	list.optional = 1
	return []opForm{create, list, short("revoke", "iam", "revokeToken", "tokenId"), short("revoke-all", "iam", "revokeTokens", "principal")}
}

// accessKeyForms show the secret as tokens are shown: alone on the output, or
// in a file that nobody else may read.
func accessKeyForms() []opForm {
	var file string
	create := withExample(short("create", "iam", "createAccessKey", "principal"), "  strongroom access-key create web --ttl 30d --out secret-access-key")
	create.short = "Make an access key; prints its secret, which is shown only this once"
	create.extra = func(cmd *cobra.Command) {
		cmd.Flags().StringVar(&file, "out", "", "write the secret to this new file, mode 0600, instead")
	}
	create.show = func(s *session, resp any) error {
		r := resp.(*wire.CreateAccessKeyResponse)
		fmt.Fprintf(s.errOut, "access key %s, valid until %s\n", printable(r.AccessKeyID), cell(reflect.ValueOf(r.ExpiresAt)))
		if file != "" {
			return writeToken(file, r.SecretAccessKey.Bytes)
		}
		_, err := fmt.Fprintf(s.out, "%s\n", r.SecretAccessKey.Expose())
		return err
	}
	list := paged(short("ls", "iam", "listAccessKeys", "principal"))
	list.optional = 1
	return []opForm{create, list, short("delete", "iam", "deleteAccessKey", "accessKeyId")}
}
