// Package oracle is a second, naive implementation of the flow metrics, for
// tests only. [Evaluate] answers the same question as [flow.Measure] and shares
// nothing with it but the data types, so that an error in one of the two shows
// as a difference.
//
// It is written to be read beside the rules R1 to R26 and not to be fast: it
// steps through every distinct instant, rebuilds each item at each instant by
// replaying its facts from the first one on, and sums what it finds between one
// instant and the next.
package oracle
