// Package archtest holds tests about the repository itself: who may import
// whom, documentation of everything exported, the size and the names of files,
// the targets that the documentation names.
//
// Each rule is a function from a file tree to the places that break
// it. rules_test.go applies every rule to the repository and to a small tree
// that breaks it, so that a rule which no longer sees anything fails as well.
package archtest
