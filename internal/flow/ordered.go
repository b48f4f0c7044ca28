package flow

import (
	"cmp"
	"math"
	"math/bits"
	"slices"
)

// An ordered list keeps values in ascending order while they come and go. What
// comes and goes is gathered and then worked in at once, so that a million
// values cost one sort and a single one a search.
type ordered[T any] struct {
	compare func(a, b T) int // 0 only for values that are interchangeable
	at      func(v T) int64  // optional: what they are ordered by first
	list    []T              // ascending, as of the last update
	in, out []T              // since then
	tail    []T              // kept for its memory
}

// put adds a value with the next update.
func (o *ordered[T]) put(v T) { o.in = append(o.in, v) }

// take removes one of the equal values with the next update.
func (o *ordered[T]) take(v T) { o.out = append(o.out, v) }

// update works in what came and went: everything before the first of it stays
// where it is, the rest is merged anew. It reports whether there was anything.
func (o *ordered[T]) update() bool {
	if len(o.in) == 0 && len(o.out) == 0 {
		return false
	}
	o.in = o.sorted(o.in)
	slices.SortFunc(o.out, o.compare)
	first := len(o.list)
	for _, changes := range [...][]T{o.in, o.out} {
		if len(changes) > 0 {
			i, _ := slices.BinarySearchFunc(o.list, changes[0], o.compare)
			first = min(first, i)
		}
	}
	o.tail = append(o.tail[:0], o.list[first:]...)
	o.list = o.list[:first]
	o.list = slices.Grow(o.list, len(o.tail)+len(o.in))
	tail, in, out := o.tail, o.in, o.out
	for len(tail)+len(in) > 0 {
		var v T
		if len(in) == 0 || len(tail) > 0 && o.compare(tail[0], in[0]) <= 0 {
			if len(in)+len(out) == 0 {
				o.list = append(o.list, tail...)
				break
			}
			v, tail = tail[0], tail[1:]
		} else {
			v, in = in[0], in[1:]
		}
		if len(out) > 0 && o.compare(v, out[0]) == 0 {
			out = out[1:]
			continue
		}
		o.list = append(o.list, v)
	}
	if len(out) > 0 {
		panic("flow: took out of an ordered list what is not in it")
	}
	clear(o.tail) // what is gone must not be held
	o.tail, o.in, o.out = emptied(o.tail), emptied(o.in), emptied(o.out)
	return true
}

// sorted sorts values. Many of them, as there are when a board is built, come to
// as many shares of the time that they cover first: each has few to compare.
func (o *ordered[T]) sorted(values []T) []T {
	if o.at == nil || len(values) < 1024 {
		slices.SortFunc(values, o.compare)
		return values
	}
	first, last := int64(math.MaxInt64), int64(math.MinInt64)
	for _, v := range values {
		first, last = min(first, o.at(v)), max(last, o.at(v))
	}
	scale := float64(len(values)-1) / max(1, float64(last)-float64(first))
	share := func(v T) int { return int((float64(o.at(v)) - float64(first)) * scale) } // ascends with at
	ends := make([]int, len(values)+1)
	for _, v := range values {
		ends[share(v)+1]++
	}
	for i := range values {
		ends[i+1] += ends[i]
	}
	list := make([]T, len(values))
	for _, v := range values { // ends are those of the shares before it, until it is full
		i := share(v)
		list[ends[i]] = v
		ends[i]++
	}
	begin := 0
	for _, end := range ends[:len(values)] {
		if end-begin > 1 {
			slices.SortFunc(list[begin:end], o.compare)
		}
		begin = end
	}
	return list
}

// emptied keeps a list's memory for the next time, unless it was a big one.
func emptied[T any](list []T) []T {
	if cap(list) > 1024 {
		return nil
	}
	return list[:0]
}

// below returns how many values are less than v.
func (o *ordered[T]) below(v T) int {
	i, _ := slices.BinarySearchFunc(o.list, v, o.compare)
	return i
}

// A slope is Σ by·(t − at) over some instants, as a function of t: what grows by
// one second a second from each of them on. It is exact: sums are modulo 2^128,
// and whoever asks for the value knows that it is not negative.
type slope struct {
	n  int  // Σ by
	at Span // Σ by·at
}

// add adds an instant with the factor 1 or -1.
func (s *slope) add(at int64, by int) {
	s.n += by
	s.at = s.at.Plus(product(by, at))
}

// value returns the sum as of an instant.
func (s *slope) value(t int64) Span { return product(s.n, t).minus(s.at) }

// product returns n·t modulo 2^128, negative ones as two's complement.
func product(n int, t int64) Span {
	hi, lo := bits.Mul64(uint64(n), uint64(t))
	if n < 0 {
		hi -= uint64(t)
	}
	if t < 0 {
		hi -= uint64(n)
	}
	return Span{hi, lo}
}

func compareInstants(a, b int64) int { return cmp.Compare(a, b) }
