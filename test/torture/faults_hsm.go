package torture

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"time"
)

// The table of test/hsm/testdata/faulty.c, which stands before each node's
// SoftHSM: rules of six words for each function of CK_FUNCTION_LIST, and two
// more. The last is about all functions together.
const (
	ckAll        = 69
	ruleBytes    = 6 * 4
	controlBytes = (ckAll + 1) * ruleBytes

	wordCalls, wordResult, wordOneIn = 2, 3, 5

	ckrDeviceError, ckrSessionHandleInvalid = 0x30, 0xB3
)

func hsmFamilies() []family {
	return []family{
		{"token away", []target{leader, follower}, time.Second, 6 * time.Second, 2, tokenAway},
		{"sick HSMs", []target{all}, 3 * time.Second, 10 * time.Second, 2, sickHSMs},
	}
}

// tokenAway takes the folder of the token away, which SoftHSM answers with
// success and nothing in it.
func tokenAway(l *Lab, s step) (fault, error) {
	n, err := l.pick(s)
	if err != nil {
		return fault{}, err
	}
	tokens := n.file("tokens")
	if err := errors.Join(os.Rename(tokens, tokens+".away"), os.Mkdir(tokens, 0o700)); err != nil {
		return fault{}, err
	}
	return fault{
		verify: func() error {
			return l.await(n.name()+" to notice", func() bool { healthy, ok := n.metric("strongroom_hsm_healthy"); return ok && healthy == "0" })
		},
		disarm: func() error {
			err := errors.Join(os.Remove(tokens), os.Rename(tokens+".away", tokens))
			return errors.Join(err, l.await(n.name()+" to use it", func() bool {
				healthy, ok := n.metric("strongroom_hsm_healthy")
				return !n.runs() || ok && healthy == "1"
			}))
		},
	}, nil
}

// sickHSMs makes one call in so many fail by chance, on every node.
func sickHSMs(l *Lab, s step) (fault, error) {
	result := []uint32{ckrDeviceError, ckrSessionHandleInvalid}[s.Number%2]
	oneIn := []uint32{25, 50, 100}[s.Number/2%3]
	nodes := l.members()
	set := func(result, oneIn uint32) error {
		return each(nodes, func(n *node) error {
			return errors.Join(n.rule(wordCalls, 0), n.rule(wordResult, result), n.rule(wordOneIn, oneIn))
		})
	}
	if err := set(result, oneIn); err != nil {
		return fault{}, err
	}
	return fault{
		verify: func() error {
			return l.await("calls to fail", func() bool {
				calls := uint32(0)
				for _, n := range nodes {
					made, err := n.ruled(wordCalls)
					if err != nil {
						return false
					}
					calls += made
				}
				return calls > 20*oneIn // one in oneIn: that none failed has a chance of e^-20
			})
		},
		disarm: func() error { return set(0, 0) },
	}, nil
}

// rule sets a word of the rule about all functions; the module sees it at
// once, since the file is its memory.
func (n *node) rule(word int, value uint32) error {
	f, err := os.OpenFile(n.file("faults"), os.O_RDWR, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(binary.NativeEndian.AppendUint32(nil, value), int64(ckAll*ruleBytes+4*word))
	return errors.Join(err, f.Close())
}

func (n *node) ruled(word int) (uint32, error) {
	raw, err := os.ReadFile(n.file("faults"))
	if err != nil {
		return 0, err
	}
	if len(raw) != controlBytes {
		return 0, fmt.Errorf("the table has %d bytes", len(raw))
	}
	return binary.NativeEndian.Uint32(raw[ckAll*ruleBytes+4*word:]), nil
}
