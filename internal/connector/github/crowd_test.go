package github

import (
	"fmt"
	"testing"
	"time"
)

// With many repositories a cursor has room for few entries of each: a restart
// lists no more of them again than it remembers.
func TestIdleRestartOfManyRepositories(t *testing.T) {
	repos := make([]string, 120)
	for k := range repos {
		repos[k] = fmt.Sprintf("acme/r%03d", k)
	}
	b := newBench(t, FakeOptions{}, repos...)
	for k := range 40 { // as edited together
		b.fake.Create(b.clock.after(time.Duration(k%2)*time.Second), repos[0], "Issue", CreateOptions{})
	}
	b.clock.after(time.Hour)
	r := newRecord()
	b.poll(b.source(), r)
	b.direct.requests()
	b.poll(b.source(), r)
	if n := b.direct.requests(); n > 2*len(repos) {
		t.Errorf("an idle poll after a restart took %d requests, want 2 for each of %d repositories", n, len(repos))
	}
	b.want(r)
}
