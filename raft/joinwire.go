package raft

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"

	"github.com/strongroom/strongroom/internal/secret"
)

func writeFrame(w io.Writer, b []byte) error {
	if len(b) > maxJoinJSON {
		return errors.New("a frame is too large")
	}
	_, err := w.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(b))), b...))
	return err
}

func readFrame(r io.Reader, limit int) ([]byte, error) {
	var head [2]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	size := int(binary.BigEndian.Uint16(head[:]))
	if size > limit {
		return nil, fmt.Errorf("a frame of %d bytes", size)
	}
	b := make([]byte, size)
	_, err := io.ReadFull(r, b)
	return b, err
}

func readQuestion(conn net.Conn) (q joinQuestion, token []byte, err error) {
	// No buffer in between: it would keep a copy of the token.
	raw, err := readFrame(conn, maxJoinQuestion)
	if err != nil {
		return q, nil, err
	}
	if err := json.Unmarshal(raw, &q); err != nil {
		return q, nil, errors.New("the question is unreadable")
	}
	token, err = readFrame(conn, maxJoinToken)
	return q, token, err
}

func writeToken(w io.Writer, token secret.Bytes) error {
	text := token.Expose()
	if len(text) > maxJoinToken {
		return fmt.Errorf("the join token has %d bytes; at most %d are possible", len(text), maxJoinToken)
	}
	// Not in one piece: that would be a copy of the text.
	_, err := w.Write(binary.BigEndian.AppendUint16(nil, uint16(len(text))))
	if err == nil && len(text) > 0 {
		_, err = w.Write(text)
	}
	return err
}
