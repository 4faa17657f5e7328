package pkcs11

import (
	"encoding/json"
	"net"
	"os"
	"testing"
)

// Test binaries are workers too: the real one, and one that plays a module
// without having one.
func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == "playing-worker" {
		var p play
		if json.Unmarshal([]byte(os.Args[2]), &p) != nil {
			os.Exit(3)
		}
		os.Exit(p.run())
	}
	if len(os.Args) > 1 && os.Args[1] == "hsm-worker" {
		os.Exit(WorkerMain())
	}
	os.Exit(m.Run())
}

// play is how a worker without a module behaves: well, but for one operation.
type play struct {
	Count string // a file that grows by one byte with each start
	Stage string // a file: while it is there, the worker behaves
	Op    op     // the operation that it spoils
	How   string // "exit", "hang", "garbage", "stranger", "nonsense", or a status as a letter from 'a'
	Text  string
}

func (p play) run() int {
	f, err := os.OpenFile(p.Count, os.O_APPEND|os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return 4
	}
	_, _ = f.WriteString(".")
	_ = f.Close()
	conn, err := parentConn()
	if err != nil {
		return 5
	}
	for {
		in, err := readFrame(conn)
		if err != nil {
			return 0
		}
		if code := p.answer(conn, in); code >= 0 {
			return code
		}
	}
}

func (p play) answer(conn net.Conn, in frame) int {
	out := frame{kind: uint8(statusOK), id: in.id}
	e := newEncoder(64)
	switch op(in.kind) {
	case opProbe:
		Profile{Module: "play"}.put(e)
	case opUseRoot:
		e.flag(false)
	case opPing, opCanary:
		e.u32(0)
	case opMAC, opRandom:
		e.bytes([]byte("answer"))
	}
	out.payload = e.b
	_, err := os.Stat(p.Stage)
	if behaves := err == nil; op(in.kind) == p.Op && !behaves {
		_ = writeSecret(p.Stage+".spoilt", "")
		switch p.How {
		case "exit":
			return 7
		case "hang":
			return -1
		case "garbage":
			_, _ = conn.Write([]byte("this is no frame of ours"))
			return -1
		case "stranger":
			out.id += 1000
		case "nonsense":
			out.payload = []byte{1}
		default:
			e := newEncoder(64)
			e.text(p.Text)
			e.text("detail")
			out = frame{kind: p.How[0] - 'a', id: in.id, payload: e.b}
		}
	}
	if writeFrame(conn, out) != nil {
		return 0
	}
	return -1
}

// how spells a status for play.
func how(s status) string { return string('a' + rune(s)) }

func writeSecret(path, text string) error { return os.WriteFile(path, []byte(text), 0o600) }
