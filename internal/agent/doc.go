// Package agent brings values to programs that do not speak to a cluster
// themselves: in the environment and in private files of a command that it
// starts (Exec), and in files that it keeps up to date (Agent).
//
// It tells the cluster that a version is in use, and no other, only once that
// is true of everybody who was given the secret; see Uses.
package agent
