// Package backup is the file of a saved snapshot: encrypted and authenticated,
// so that it can lie anywhere, and opened by nobody without an HSM of the
// cluster.
//
// It is a file of the age format (age-encryption.org/v1) with one recipient
// of our own type, strongroom-hsm: the file key is sealed in the HSM under a
// key that was made there for this file and stands in it, wrapped under the
// cluster's root key. age's header MAC and its stream, whose last piece says
// that it is the last, find every byte that was changed, moved or cut off.
package backup
