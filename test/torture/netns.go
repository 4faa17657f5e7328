package torture

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
)

// Each node has a network namespace with one interface, which ends in a bridge
// in the lab's own. Clients live in the lab's, so a cut between nodes cuts no
// client off, unless a fault says so.

// labAddress is where clients come from.
const labAddress = "10.77.0.254"

func nodeAddress(node int) string { return "10.77.0." + strconv.Itoa(node) }

// makeBridge makes the lab's side of the network. Clients have addresses of
// their own, since failed credentials are counted by address.
func makeBridge(clients int) error {
	err := errors.Join(
		run("ip", "link", "add", "lab", "type", "bridge"),
		run("ip", "addr", "add", labAddress+"/16", "dev", "lab"),
		run("ip", "link", "set", "lab", "up"),
	)
	for i := range clients {
		err = errors.Join(err, run("ip", "addr", "add", clientAddress(i)+"/16", "dev", "lab"))
	}
	return err
}

func clientAddress(client int) string { return "10.77.1." + strconv.Itoa(1+client) }

// makeNamespace makes the network of a node. The file keeps the namespace
// while no process is in it.
func (n *node) makeNamespace() error {
	n.netns = filepath.Join(n.dir, "netns")
	if err := os.WriteFile(n.netns, nil, 0o600); err != nil {
		return err
	}
	outer := "n" + strconv.Itoa(n.number)
	return errors.Join(
		run("unshare", "--net="+n.netns, "true"),
		n.within("ip", "link", "add", "eth0", "type", "veth", "peer", "name", outer, "netns", strconv.Itoa(os.Getpid())),
		run("ip", "link", "set", outer, "master", "lab", "up"),
		n.within("ip", "addr", "add", nodeAddress(n.number)+"/16", "dev", "eth0"),
		n.within("ip", "link", "set", "eth0", "up"),
		n.within("ip", "link", "set", "lo", "up"),
		n.filter(),
	)
}

// within runs a program in the network of a node.
func (n *node) within(program string, args ...string) error {
	return run("nsenter", append([]string{"--net=" + n.netns, program}, args...)...)
}

// filter replaces what is done to packets that come to a node. Each rule is
// one of the nft language, with a counter.
func (n *node) filter(rules ...string) error {
	text := fmt.Sprintf("table inet torture\ndelete table inet torture\ntable inet torture {\n chain in {\n  type filter hook input priority 0; policy accept;\n  %s\n }\n}\n",
		strings.Join(rules, "\n  "))
	cmd := exec.Command("nsenter", "--net="+n.netns, "nft", "-f", "-")
	cmd.Stdin = strings.NewReader(text)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("nft: %w: %s", err, out)
	}
	return nil
}

// dropFrom is a rule that loses so many of a hundred packets from an address.
func dropFrom(address string, percent int) string {
	if percent >= 100 {
		return "ip saddr " + address + " counter drop"
	}
	return fmt.Sprintf("ip saddr %s numgen random mod 100 < %d counter drop", address, percent)
}

var packets = regexp.MustCompile(`packets (\d+)`)

// dropped is how many packets the rules of a node have caught.
func (n *node) dropped() (int, error) {
	text, err := output("nsenter", "--net="+n.netns, "nft", "list", "table", "inet", "torture")
	if err != nil {
		return 0, err
	}
	total := 0
	for _, m := range packets.FindAllStringSubmatch(text, -1) {
		count, err := strconv.Atoi(m[1])
		if err != nil {
			return 0, err
		}
		total += count
	}
	return total, nil
}

// slow makes what leaves a node wait in a queue in front of a slow line; none
// takes that back. The kernel here has no netem, which would delay evenly.
func (n *node) slow(rate string) error {
	return n.within("tc", "qdisc", "replace", "dev", "eth0", "root", "tbf", "rate", rate, "burst", "4kb", "latency", "400ms")
}

func (n *node) fast() error { return n.within("tc", "qdisc", "del", "dev", "eth0", "root") }

var overlimits = regexp.MustCompile(`overlimits (\d+)`)

// queued is how many packets had to wait in front of the slow line.
func (n *node) queued() (int, error) {
	text, err := output("nsenter", "--net="+n.netns, "tc", "-s", "qdisc", "show", "dev", "eth0")
	if err != nil {
		return 0, err
	}
	m := overlimits.FindStringSubmatch(text)
	if m == nil {
		return 0, nil
	}
	return strconv.Atoi(m[1])
}
