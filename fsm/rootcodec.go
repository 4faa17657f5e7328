package fsm

import "errors"

// EncodeRoot writes what an HSM needs to know a root key again: its checks and
// its canary. The copies for HSMs stay out.
func EncodeRoot(r Root) ([]byte, error) {
	r.Copies = nil
	return codec.enc.Marshal(r)
}

// DecodeRoot reads what EncodeRoot wrote.
func DecodeRoot(b []byte) (Root, error) {
	var r Root
	if err := codec.dec.Unmarshal(b, &r); err != nil || r.Version == 0 || r.Copies != nil {
		return Root{}, errors.New("this is not the description of a root key")
	}
	return r, nil
}
