package exporter

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/flowmetrics/flowmetrics/internal/flow"
)

// worldEnd is a Monday in the middle of a block range.
var worldEnd = time.Date(2026, 6, 29, 0, 0, 0, 0, time.UTC)

// worldPolicy has so many value streams, each of one container, some with
// everything agreed and some with nothing.
func worldPolicy(streams int) *flow.Policy {
	w := &flow.Workflow{
		Name:         "standard",
		StatusByName: map[string]flow.State{"Ready": flow.Waiting, "Review": flow.Waiting, "Blocked": flow.Waiting},
		Types: []flow.TypeRule{
			{Match: "Story", Type: flow.Feature}, {Match: "Bug", Type: flow.Defect}, {Match: "Risk", Type: flow.Risk}, {Match: "Debt", Type: flow.Debt},
		},
		CancelledResolutions: []string{"Won't do"},
	}
	p := &flow.Policy{Windows: flow.DefaultWindows()}
	for i := range streams {
		v := &flow.ValueStream{
			Name: fmt.Sprintf("stream-%02d", i), Title: fmt.Sprintf(`Team "%d", \ all`, i), Workflow: w, Timezone: "Europe/Berlin",
			Include: []flow.Include{{Source: "jira", Containers: []string{"P" + strconv.Itoa(i)}}}, NeglectAfter: flow.DefaultNeglectAfter,
		}
		var err error
		if v.Location, err = time.LoadLocation(v.Timezone); err != nil {
			panic(err)
		}
		if i%3 != 1 {
			v.Targets = flow.Targets{
				FlowTime: 12 * day, Percentile: 85, Load: 30,
				Distribution: map[flow.ItemType]float64{flow.Feature: 0.5, flow.Defect: 0.2, flow.Risk: 0.1, flow.Debt: 0.2},
			}
		} else {
			v.Title = ""
		}
		p.ValueStreams = append(p.ValueStreams, v)
	}
	return p
}

// world fills a ledger with so many weeks of work before worldEnd, and the first
// week after it: items come all the time, wait, are worked on in several
// statuses, and are finished, cancelled or reopened.
func world(seed uint64, streams, weeks, itemsAWeek int) *flow.Ledger {
	random := rand.New(rand.NewPCG(seed, 0))
	l := flow.NewLedger()
	start := worldEnd.Add(-time.Duration(weeks) * 7 * day)
	items := streams * (weeks + 1) * itemsAWeek
	for i := range items {
		stream := i % streams
		at := start.Add(time.Duration(random.Int64N(int64(weeks+1) * int64(7*day)))).Truncate(time.Second)
		c := flow.Change{Source: "jira", Container: "P" + strconv.Itoa(stream), Item: strconv.Itoa(1000 + i), Kind: flow.Created}
		n := 0
		add := func(status, category string, more ...flow.FieldChange) {
			n++
			c.ID, c.Sequence, c.At = fmt.Sprintf("%s:%d", c.Item, n), int64(n), at
			c.Fields = append(more, flow.FieldChange{Field: flow.FieldStatus, To: flow.Value{Name: status, Category: category}})
			l.Add(&c)
			c.Kind = flow.Updated
		}
		after := func(mean time.Duration) {
			at = at.Add(time.Duration(random.ExpFloat64() * float64(mean))).Truncate(time.Second)
		}
		types := []string{"Story", "Story", "Story", "Bug", "Bug", "Risk", "Debt", "Debt"}
		if stream%4 == 3 {
			types = append(types, "Unheard of")
		}
		add("Backlog", "new", flow.FieldChange{Field: flow.FieldType, To: flow.Value{Name: types[random.IntN(len(types))]}})
		after(4 * day)
		add("Ready", "")
		for again := true; again; again = random.IntN(12) == 0 {
			after(2 * day)
			add("In Progress", "indeterminate")
			after(30 * hour)
			if random.IntN(5) == 0 {
				add("Blocked", "")
				after(2 * day)
				add("In Progress", "indeterminate")
				after(day)
			}
			add("Review", "")
			after(day)
			if random.IntN(15) == 0 {
				add("Done", "done", flow.FieldChange{Field: flow.FieldResolution, To: flow.Value{Name: "Won't do"}})
			} else {
				add("Done", "done")
			}
			after(5 * day)
		}
	}
	return l
}
