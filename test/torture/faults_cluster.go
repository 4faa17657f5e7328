package torture

import (
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

func clusterFamilies() []family {
	return []family{
		{"backup", []target{all}, 0, 0, 1, backup},
		{oneMore, []target{all}, 0, 3 * time.Second, 1, oneMoreMember},
	}
}

// save has the binary save a backup, as an administrator does.
func (l *Lab) save(file string) error {
	cmd := exec.Command(l.binary, "snapshot", "save", file)
	cmd.Env = []string{
		"STRONGROOM_ADDR=" + l.node(1).url(), "STRONGROOM_FALLBACK_ADDRS=" + l.node(2).url() + "," + l.node(3).url(),
		"STRONGROOM_CACERT=" + filepath.Join(l.dir, "ca.pem"), "STRONGROOM_TOKEN_FILE=" + filepath.Join(l.dir, "admin.token"),
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}

// request sends what an administrator asks for until it is answered, and
// decodes the answer.
func (l *Lab) request(operation, body string, into any) error {
	c := newClient(l, 0, 0, time.Now())
	a, err := c.insist(l.token, operation, body)
	switch {
	case err != nil:
		return err
	case a.code != "":
		return fmt.Errorf("%s: %s", operation, a.body)
	case into == nil:
		return nil
	}
	return json.Unmarshal(a.body, into)
}

// backup saves the state while everybody writes, and opens it again with a
// node's HSM.
func backup(l *Lab, _ step) (fault, error) {
	file := filepath.Join(l.dir, fmt.Sprintf("backup-%d.age", time.Now().UnixNano()))
	err := l.await("a backup", func() bool { return l.save(file) == nil })
	if err != nil {
		return fault{}, err
	}
	lead, err := l.leader()
	if err != nil {
		return fault{}, err
	}
	text, err := l.try("snapshot", "verify", file, "--config", lead.config())
	if err != nil || !strings.Contains(text, "The backup is whole, authentic, and restores.") {
		return fault{}, fmt.Errorf("a backup that does not open: %s %w", text, err)
	}
	return fault{disarm: func() error { return nil }}, nil
}

// oneMore is the family that uses up a spare node each time: ids of nodes that
// were removed never come back.
const oneMore = "one more member"

// oneMoreMember adds a node, gives it the root key by a rotation, waits for
// its vote, and removes it again for ever.
func oneMoreMember(l *Lab, _ step) (fault, error) {
	if l.spare > len(l.nodes) {
		return fault{}, errors.New("no node is left that could join")
	}
	added := l.node(l.spare)
	if err := l.request("cluster/addMember", fmt.Sprintf(`{"nodeId":%q,"address":%q,"clientToken":%q}`, added.name(), added.link(), fresh()), nil); err != nil {
		return fault{}, err
	}
	if err := added.start(); err != nil {
		return fault{}, err
	}
	l.spare++
	return fault{
		verify: func() error { return l.giveRootKey(added) },
		disarm: func() error {
			if !added.runs() {
				return errors.New(added.name() + " has ended")
			}
			l.in = append(l.in, added.number)
			err := l.request("cluster/removeMember", fmt.Sprintf(`{"nodeId":%q,"reason":"torture","clientToken":%q}`, added.name(), fresh()), nil)
			if err != nil {
				return err
			}
			err = l.await(added.name()+" to leave", func() bool { _, there := l.member(added); return !there })
			l.in = slices.DeleteFunc(l.in, func(number int) bool { return number == added.number })
			added.kill()
			return err
		},
	}, nil
}

// member is what the cluster says of a node.
type member struct{ NodeID, Role, RootKey string }

func (l *Lab) member(n *node) (member, bool) {
	var all struct{ Members []member }
	if err := l.request("cluster/members", `{}`, &all); err != nil {
		return member{}, false
	}
	for _, m := range all.Members {
		if m.NodeID == n.name() {
			return m, true
		}
	}
	return member{}, false
}

// giveRootKey rotates the root key, to the HSMs of all members and to that of
// the new one, whose transport key everybody's configuration admits. It is
// begun when the new one is known to lack it, as the manual has it.
func (l *Lab) giveRootKey(added *node) error {
	err := l.await(added.name()+" to be a member without the root key", func() bool {
		m, there := l.member(added)
		return there && m.Role == "nonVoter" && m.RootKey == "missing"
	})
	if err != nil {
		return err
	}
	// It is refused while a member does not answer.
	if err := l.await("a rotation to begin", func() bool { return l.request("cluster/rotateRootKey", `{}`, nil) == nil }); err != nil {
		return err
	}
	return l.await(added.name()+" to have a vote", func() bool {
		m, there := l.member(added)
		return there && m.RootKey == "ok" && (m.Role == "follower" || m.Role == "leader")
	})
}
