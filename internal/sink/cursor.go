package sink

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"regexp"
	"strconv"

	"github.com/strongroom/strongroom/internal/durable"
)

// cursor is how far a sink has come: the last event that it has dealt with,
// and the hash of that event's line, by which a trail that was replaced is
// told from the one that the sink followed.
//
//	strongroom-sink-cursor 1\n
//	SEQUENCE SHA-256 of the line, in hex\n
//
// The sequence 0 has a hash of zeros: nothing was dealt with yet.
type cursor struct {
	sequence uint64
	hash     [sha256.Size]byte
}

const cursorMagic = "strongroom-sink-cursor 1\n"

var cursorLine = regexp.MustCompile(`^(0|[1-9][0-9]{0,19}) ([0-9a-f]{64})\n$`)

// cursorFile is the path of a cursor.
type cursorFile string

// load reads the cursor; there is false if it was never saved.
func (c cursorFile) load() (at cursor, there bool, err error) {
	raw, err := os.ReadFile(string(c))
	if errors.Is(err, fs.ErrNotExist) {
		return cursor{}, false, nil
	}
	if err != nil {
		return cursor{}, false, fmt.Errorf("the cursor cannot be read: %w", err)
	}
	at, ok := parseCursor(string(raw))
	if !ok {
		return cursor{}, false, fmt.Errorf("the cursor %s is not what this release writes; remove it to have the sink begin with what audit.sinks says as start "+
			"(from oldest on, the receiver gets events that it has once more), then send the server SIGHUP", string(c))
	}
	return at, true, nil
}

func parseCursor(text string) (cursor, bool) {
	var at cursor
	if len(text) < len(cursorMagic) || text[:len(cursorMagic)] != cursorMagic {
		return at, false
	}
	m := cursorLine.FindStringSubmatch(text[len(cursorMagic):])
	if m == nil {
		return at, false
	}
	var err error
	if at.sequence, err = strconv.ParseUint(m[1], 10, 64); err != nil {
		return at, false
	}
	_, err = hex.Decode(at.hash[:], []byte(m[2]))
	return at, err == nil && (at.sequence != 0 || at.hash == [sha256.Size]byte{})
}

// String is the content of the file.
func (at cursor) String() string { return fmt.Sprintf("%s%d %x\n", cursorMagic, at.sequence, at.hash) }

// save replaces the file by one that is on the disk, so that a power cut
// leaves the old cursor or the new one.
func (c cursorFile) save(at cursor) error {
	if err := durable.Replace(string(c), []byte(at.String())); err != nil {
		return fmt.Errorf("the cursor cannot be saved: %w", err)
	}
	return nil
}
