// Package matrix asks a running cluster, through every node, what it lets
// whom do, and compares with what follows from the written rules. The second
// opinion in this folder is made from docs/policies.md alone and imports
// nothing of the product's.
package matrix
