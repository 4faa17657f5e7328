package main

import (
	"context"
	"fmt"
	"io"
	"reflect"
	"strings"
	"unicode"

	"github.com/spf13/cobra"

	"github.com/strongroom/strongroom/engine"
)

// Groups of the help.
const (
	groupDaily  = "daily"
	groupRights = "rights"
	groupAPI    = "api"
	groupServer = "server"
)

// services are the groups of commands that are made from the operation table,
// one command for each operation.
var services = []struct{ name, short string }{
	{"secrets", "Every operation on secrets"},
	{"kms", "Every operation on KMS keys"},
	{"iam", "Every operation on principals, tokens and policies"},
	{"audit", "Search the audit trail"},
	{"cluster", "Look at the cluster, move leadership"},
}

// addClientCommands adds what talks to a cluster: SERVICE OPERATION for every
// row of the operation table, and the short forms for daily work.
func addClientCommands(root *cobra.Command) {
	root.AddGroup(
		&cobra.Group{ID: groupDaily, Title: "Daily work:"},
		&cobra.Group{ID: groupRights, Title: "Rights, trail and cluster:"},
		&cobra.Group{ID: groupServer, Title: "Running a cluster:"},
		&cobra.Group{ID: groupAPI, Title: "Every operation of the API, flags named after its fields:"},
	)
	for _, cmd := range root.Commands() {
		cmd.GroupID = groupServer
	}
	groups := map[string]*cobra.Command{}
	for _, s := range services {
		cmd := group(s.name, s.short)
		cmd.GroupID = groupAPI
		if s.name == "audit" || s.name == "cluster" {
			cmd.GroupID = groupRights
		}
		groups[s.name] = cmd
		root.AddCommand(cmd)
	}
	for _, op := range engine.Operations() {
		form := opForm{op: op, use: kebab(op.Name), short: op.Summary}
		groups[op.Service].AddCommand(form.command())
	}
	addShortForms(root, groups)
	run, keep := execCommand(), agentCommand()
	run.GroupID, keep.GroupID = groupDaily, groupDaily
	enter := loginCommand()
	enter.GroupID = groupDaily
	root.AddCommand(run, keep, enter)
	for _, cmd := range root.Commands() {
		if cmd.GroupID != groupServer && cmd.GroupID != "" && cmd != keep { // its configuration says where the cluster is
			addConnectionFlags(cmd)
		}
	}
}

// opForm is a command that sends one operation.
type opForm struct {
	op      *engine.Operation
	use     string
	short   string
	example string
	// args are the JSON names of fields that are given as arguments instead
	// of flags; the last optional ones may be left out.
	args     []string
	optional int
	// free are the JSON names of fields that the operation needs and send fills
	// in where they are not given.
	free []string
	// all follows the pages of a list to its end unless --limit is given.
	all bool
	// show prints an answer in the table format; nil: showTable.
	show func(s *session, resp any) error
	// send does the request; nil: plain Do.
	send func(cmd *cobra.Command, s *session, req, resp any) error
	// asks says that the form with a send of its own can ask for approval of the
	// plain request.
	asks bool
	// extra adds flags of the short form's own.
	extra func(cmd *cobra.Command)
}

// session is one run of a command.
type session struct {
	*connection
	op     *engine.Operation
	out    io.Writer // standard output
	errOut io.Writer
}

func (f opForm) command() *cobra.Command {
	flags := newRequestFlags(f.op, f.args)
	for _, name := range f.free {
		flags.field(name).required = false
	}
	usage := f.use
	for i, name := range f.args {
		arg := strings.ToUpper(kebab(name))
		if i >= len(f.args)-f.optional {
			arg = "[" + arg + "]"
		}
		usage += " " + arg
	}
	cmd := &cobra.Command{
		Use: usage, Short: strings.TrimSuffix(f.short, "."), Long: f.long(), Example: f.example,
		Args: argumentCount(f.args, f.optional),
	}
	flags.add(cmd)
	if f.extra != nil {
		f.extra(cmd)
	}
	ask := ""
	if f.op.Action != "" && (f.send == nil || f.asks) {
		cmd.Flags().StringVar(&ask, "ask-approval", "", "do nothing yet: ask other people to approve exactly this request, and say why")
	}
	var all bool
	if flags.paged {
		cmd.Flags().BoolVar(&all, "all", f.all, "follow all pages")
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if flags.paged && cmd.Flags().Changed("limit") && !cmd.Flags().Changed("all") {
			all = false
		}
		if ask != "" {
			return f.askApproval(cmd, flags, args, ask)
		}
		return f.run(cmd, flags, args, all)
	}
	return cmd
}

func (f opForm) long() string {
	action := "none beyond a valid credential"
	if f.op.Action != "" {
		action = string(f.op.Action)
	}
	return fmt.Sprintf("%s\n\nOperation:   POST /api/v1/%s\nIAM action:  %s\nAudit event: %s", f.op.Summary, f.op.Path(), action, f.op.Event)
}

func argumentCount(args []string, optional int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, given []string) error {
		switch {
		case len(given) < len(args)-optional:
			return fmt.Errorf("%s is missing; usage: %s", strings.ToUpper(kebab(args[len(given)])), cmd.UseLine())
		case len(given) > len(args):
			// The argument is not shown: it may be a value that does not belong
			// on a command line.
			return fmt.Errorf("there are %d arguments and at most %d are taken; usage: %s (values come from standard input, a prompt or a file)", len(given), len(args), cmd.UseLine())
		}
		return nil
	}
}

func (f opForm) run(cmd *cobra.Command, flags *requestFlags, args []string, all bool) error {
	format, err := outputFormat(cmd)
	if err != nil {
		return err
	}
	conn, err := connect(cmd, f.op.Open)
	if err != nil {
		return err
	}
	defer conn.Close()
	s := &session{connection: conn, op: f.op, out: cmd.OutOrStdout(), errOut: cmd.ErrOrStderr()}
	req, err := flags.request(cmd, args)
	if err != nil {
		return err
	}
	defer wipeValues(reflect.ValueOf(req))
	if f.op.Streams {
		return s.Stream(cmd.Context(), f.op.Service, f.op.Name, req, s.out)
	}
	resp := reflect.New(f.op.Response).Interface()
	defer wipeValues(reflect.ValueOf(resp))
	if f.send != nil {
		err = f.send(cmd, s, req, resp)
	} else {
		err = s.do(cmd.Context(), req, resp)
	}
	if err != nil {
		return err
	}
	if all {
		if err := s.rest(cmd.Context(), req, resp); err != nil {
			return err
		}
	}
	if format == formatJSON {
		return showJSON(s.out, resp)
	}
	if f.show != nil {
		return f.show(s, resp)
	}
	return showTable(s, resp)
}

// do sends one request.
func (s *session) do(ctx context.Context, req, resp any) error {
	return s.Do(ctx, s.op.Service, s.op.Name, req, resp)
}

// rest follows the cursor to the end and adds what it finds to resp.
func (s *session) rest(ctx context.Context, req, resp any) error {
	whole := reflect.ValueOf(resp).Elem()
	cursor := whole.FieldByName("NextCursor")
	for cursor.String() != "" {
		reflect.ValueOf(req).Elem().FieldByName("Cursor").SetString(cursor.String())
		page := reflect.New(whole.Type())
		if err := s.do(ctx, req, page.Interface()); err != nil {
			return err
		}
		for i := range whole.NumField() {
			if f := whole.Field(i); f.Kind() == reflect.Slice {
				f.Set(reflect.AppendSlice(f, page.Elem().Field(i)))
			}
		}
		cursor.SetString(page.Elem().FieldByName("NextCursor").String())
	}
	return nil
}

// kebab turns a JSON name into the name of a flag or command: kmsKeyId into
// kms-key-id.
func kebab(name string) string {
	var b strings.Builder
	for i, r := range name {
		if unicode.IsUpper(r) {
			if i > 0 {
				b.WriteByte('-')
			}
			r = unicode.ToLower(r)
		}
		b.WriteRune(r)
	}
	return b.String()
}
