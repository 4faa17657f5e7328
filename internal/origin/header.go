package origin

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/netip"
)

// The header of the PROXY protocol, version 2 (the specification of HAProxy,
// section 2.2), before the first byte of TLS:
//
//	 0                12     13     14      16
//	+----------------+------+------+-------+--------------------------+
//	| 0D0A…515549540A| 0x2C | fam. | bytes | source, destination, TLV |
//	+----------------+------+------+-------+--------------------------+
//	                     C: 0 LOCAL, 1 PROXY
//
// Version 1, a line of text, is refused: its end must be searched for, and so
// bytes of what follows would have to be read and kept.
const (
	signature   = "\r\n\r\n\x00\r\nQUIT\n"
	fixedBytes  = 16
	version     = 0x20
	local       = 0x0
	proxy       = 0x1
	tcp4        = 0x11
	tcp6        = 0x21
	tcp4Bytes   = 12
	tcp6Bytes   = 36
	maxVariable = 4096 // addresses and TLVs; the largest that is sent in practice has a few hundred bytes
)

// Why a header is refused. The texts are labels of a metric as well.
var (
	errNoHeader  = errors.New("noHeader")
	errVersion1  = errors.New("version1")
	errTruncated = errors.New("truncated")
	errTooLong   = errors.New("tooLong")
	errMalformed = errors.New("malformed")
	errFamily    = errors.New("family")
)

// readHeader reads one header and not a byte more. It answers the address that
// the proxy speaks for, and an invalid one if the proxy speaks for itself. An
// end before the first byte is io.EOF: somebody looked whether the port is open.
func readHeader(r io.Reader) (netip.Addr, error) {
	var fixed [fixedBytes]byte
	if n, err := io.ReadFull(r, fixed[:]); err != nil {
		if n == 0 {
			return netip.Addr{}, err
		}
		return netip.Addr{}, fmt.Errorf("%w: %w", notHeader(fixed[:n], errTruncated), err)
	}
	if string(fixed[:len(signature)]) != signature {
		return netip.Addr{}, notHeader(fixed[:], errNoHeader)
	}
	length := int(binary.BigEndian.Uint16(fixed[14:]))
	if length > maxVariable {
		return netip.Addr{}, errTooLong
	}
	variable := make([]byte, length)
	if _, err := io.ReadFull(r, variable); err != nil {
		return netip.Addr{}, fmt.Errorf("%w: %w", errTruncated, err)
	}
	if fixed[12]&0xF0 != version {
		return netip.Addr{}, errMalformed
	}
	switch fixed[12] & 0x0F {
	case local:
		return netip.Addr{}, nil // whatever the rest says: the specification wants it skipped
	case proxy:
		return sourceIn(fixed[13], variable)
	}
	return netip.Addr{}, errMalformed
}

// notHeader tells version 1 from everything else that is no header.
func notHeader(got []byte, otherwise error) error {
	if len(got) >= 6 && string(got[:6]) == "PROXY " {
		return errVersion1
	}
	return otherwise
}

// sourceIn answers the source address. A proxy that speaks for somebody and
// does not say for whom (family 0, a UNIX socket, UDP) is refused: to take the
// proxy's own address instead would give the client the rights of the proxy.
func sourceIn(family byte, variable []byte) (netip.Addr, error) {
	var a netip.Addr
	switch {
	case family == tcp4 && len(variable) >= tcp4Bytes:
		a = netip.AddrFrom4([4]byte(variable[:4]))
	case family == tcp6 && len(variable) >= tcp6Bytes:
		a = netip.AddrFrom16([16]byte(variable[:16])).Unmap()
	case family == tcp4 || family == tcp6:
		return a, errMalformed
	default:
		return a, errFamily
	}
	if !usable(a) {
		return netip.Addr{}, errMalformed
	}
	return a, nil
}
