package flow_test

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/flowmetrics/flowmetrics/internal/flow"
	"github.com/flowmetrics/flowmetrics/internal/flow/oracle"
)

// The signals by hand. Histories are written like those of the rules, so that a
// day is that of June 2026, 0 is the last of May and so on. All is as of Monday
// 29 June, 00:00 UTC, unless a case says otherwise: so the last complete week
// begins on day 22, the spans of 7, 14, 28 and 30 days on days 22, 15, 1 and -1,
// the 77 days before the last 7 on day -55, the 8 weeks of the load on day -27,
// and the 13 of the baseline on day -153 (29 December), for the last complete
// week began in the quarter of 1 April, a Wednesday, and 30 March (day -62) is
// the last Monday before it.
//
// What is expected is one signal a line, by its field of [flow.Signals] and
// itself, in days where it ends in d, - where it is undefined.
type signalCase struct {
	name string
	edit func(v *flow.ValueStream)
	at   float64
	log  string
	want string
}

// lines writes a line for each number from 1 to n; %d in it is the number.
func lines(n int, format string) string {
	var b strings.Builder
	for i := range n {
		b.WriteString(strings.ReplaceAll(format, "%d", strconv.Itoa(i+1)) + "\n")
	}
	return b.String()
}

// begun and done are items that begin, and that begin and end, at given days.
func begun(n int, name string, start float64) string {
	return lines(n, fmt.Sprintf("%v %s%%d CREATED STATUS:In_Progress", start, name))
}

func done(n int, name string, start, end float64) string {
	return begun(n, name, start) + lines(n, fmt.Sprintf("%v %s%%d UPDATED STATUS:Done", end, name))
}

// weekly completes so many items in each of the weeks from the one that begins on
// a day on; each took a day, and was completed when a day and a half of the week
// were over.
func weekly(first float64, counts ...int) string {
	var b strings.Builder
	for i, n := range counts {
		start := first + float64(7*i)
		b.WriteString(done(n, fmt.Sprintf("week%v_", start), start+0.5, start+1.5))
	}
	return b.String()
}

// old is an item that was begun and given up long ago, so that all weeks count.
const old = "-200 old CREATED STATUS:In_Progress\n-199 old UPDATED STATUS:Won't_Do\n"

// baseline is the day on which the baseline begins.
const baseline = -153

func inZone(name string) func(*flow.ValueStream) {
	return func(v *flow.ValueStream) {
		zone, err := time.LoadLocation(name)
		if err != nil {
			panic(err)
		}
		v.Location = zone
	}
}

func TestSignalsByHand(t *testing.T) {
	for _, c := range slices.Concat(balanceCases, loadCases, velocityCases, timeCases, reopenCases) {
		t.Run(strings.ReplaceAll(c.name, " ", "_"), func(t *testing.T) {
			p := rulesPolicy()
			p.ValueStreams = p.ValueStreams[:1]
			if c.edit != nil {
				c.edit(p.ValueStreams[0])
			}
			at := juneDay(29)
			if c.at != 0 {
				at = juneDay(c.at)
			}
			log := parseHistory(t, c.log)
			for name, signals := range map[string]flow.Signals{
				"flow":   snapshot(p, log, at).ValueStreams[0].Signals,
				"oracle": oracle.Evaluate(p, log, at).ValueStreams[0].Signals,
			} {
				got := numbers(signals)
				for line := range strings.Lines(c.want) {
					field, want, ok := strings.Cut(strings.TrimSpace(line), " ")
					if !ok {
						continue
					}
					x, known := got[field]
					if !known {
						t.Fatalf("there is no signal %s", field)
					}
					if want == "-" && x.Defined || want != "-" && (!x.Defined || !equalNumber(t, x.Value, want)) {
						t.Errorf("%s: %s is %v, want %s", name, field, x, want)
					}
				}
			}
		})
	}
}

var balanceCases = []signalCase{
	{name: "nothing ever", want: `
		NetFlow 0
		NetFlowP -
		LoadBaseline -
		LoadPrevious 0
		TotalAgePrevious 0
		PredictedLow -
		OverTargetExpected -
		VelocityWeek 0
		VelocityMean -
		VelocityLower -
		VelocityUpper -
		TimeWeek -
		TimeLower -
		TimeUpper -
		Reopened 0
		ReopenedLimit -`},
	{name: "an entry at T does not exist, one at T-14d counts, one before is load of then", log: `
		29 at_T    CREATED STATUS:In_Progress
		15 at_edge CREATED STATUS:In_Progress
		14.5 early CREATED STATUS:In_Progress`, want: `
		NetFlow 1
		LoadPrevious 1
		TotalAgePrevious 0.5d`},
	{name: "an exit at T-14d counts, and the item was in flow then", log: `
		10 at_edge CREATED STATUS:In_Progress
		15 at_edge UPDATED STATUS:Done
		10 early   CREATED STATUS:In_Progress
		14.5 early UPDATED STATUS:Done`, want: `
		NetFlow -1
		LoadPrevious 1
		TotalAgePrevious 5d`},
	{name: "age of then is of the whole life, without pauses", log: `
		1 a CREATED STATUS:Ready
		3 a UPDATED STATUS:In_Progress
		4 a UPDATED STATUS:Backlog
		14 a UPDATED STATUS:In_Progress
		20 a UPDATED STATUS:Done
		2 b CREATED STATUS:In_Progress in=elsewhere
		12 b UPDATED in=P
		16 c CREATED STATUS:In_Progress`, want: `
		NetFlow 0
		LoadPrevious 2
		TotalAgePrevious 17d`}, // 3 + 1, 10 + 3
	{name: "9 in and 4 out may well be chance", log: begun(5, "in", 16) + done(4, "out", 17, 18), want: `
		NetFlow 5
		NetFlowP 0.266845703125`},
	{name: "10 in and none out are not", log: begun(10, "in", 16), want: `
		NetFlow 10
		NetFlowP 0.001953125`},
	{name: "5 in and 5 out", log: done(5, "both", 16, 17), want: `
		NetFlow 0
		NetFlowP 1`},
	{name: "9 crossings say nothing", log: begun(9, "in", 16), want: `
		NetFlow 9
		NetFlowP -`},
}

var loadCases = []signalCase{
	{name: "load of 8 weeks", log: "-27.5 a CREATED STATUS:In_Progress\n" + begun(2, "b", 8) + "1 c CREATED STATUS:Ready", want: `
		LoadBaseline 1.5`}, // 1 1 1 1 2 4 4 4: the two in the middle are 1 and 2
	{name: "first entry as the oldest week begins", log: "-27 a CREATED STATUS:In_Progress", want: `
		LoadBaseline -`},
	{name: "an hour before the week ends there are other weeks", at: 28.9, log: "-34.1 a CREATED STATUS:In_Progress\n" + begun(1, "b", -6), want: `
		LoadBaseline 1.5`},
	{name: "and their oldest is not covered", at: 28.9, log: "-33.9 a CREATED STATUS:In_Progress", want: `
		LoadBaseline -`},
	// Of the weeks in Berlin from 16 March to 11 May, the second has 167 hours,
	// of which x is in flow for half; y is there for the last four.
	{name: "a week of 167 hours", edit: inZone("Europe/Berlin"), at: -20.0833333333, log: old + `
		-66 x CREATED STATUS:In_Progress
		-62.5208333333 x UPDATED STATUS:Done
		-48.0833333333 y CREATED STATUS:In_Progress`, want: `
		LoadBaseline 0.75`}, // 0 0 0 ½ 1 1 1 1
	{name: "10 completions, the first as the 28 days begin", log: begun(5, "in", 20) + done(1, "edge", 0, 1) + done(9, "out", 20, 21), want: `
		PredictedLow 9.572811275764d`}, // 5 × 28 / 10 = 14 days, less 14 / √10
	{name: "9 completions are too few", log: begun(5, "in", 20) + done(1, "edge", 0, 0.5) + done(9, "out", 20, 21), want: `
		PredictedLow -`},
	{name: "with nothing in flow there is nothing to wait for", log: done(10, "out", 20, 21), want: `
		PredictedLow 0`},
	{name: "over target", log: begun(5, "in", 20) + fiveTimed(-1), want: `
		OverTargetExpected 1.2`}, // (8 + 4) / (20 + 16 + 8 + 4 + 2) of 5
	{name: "over target with nothing in flow", log: fiveTimed(-1), want: `
		OverTargetExpected 0`},
	{name: "over target by too few", log: begun(5, "in", 20) + fiveTimed(-1.5), want: `
		OverTargetExpected -`},
	{name: "over no target", edit: func(v *flow.ValueStream) { v.Targets.FlowTime = 0 }, log: begun(5, "in", 20) + fiveTimed(-1), want: `
		OverTargetExpected -`},
}

// fiveTimed completes items after 20, 16, 8, 4 and 2 days, the first of them at a
// day.
func fiveTimed(end float64) string {
	return done(1, "a", end-20, end) + done(1, "b", -10, 6) + done(1, "c", 0, 8) + done(1, "d", 10, 14) + done(1, "e", 10, 12)
}

// fives are counts of thirteen weeks.
var fives = []int{5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5}

var velocityCases = []signalCase{
	{name: "edges of the last week", log: done(1, "first", 20, 22) + done(1, "late", 20, 29) + done(1, "early", 20, 21.5), want: `
		VelocityWeek 1`},
	{name: "reopened is not completed", log: done(1, "a", 20, 23) + "25 a1 UPDATED STATUS:In_Progress", want: `
		VelocityWeek 0`},
	{name: "completed again counts where it was last", log: done(1, "a", 5, 10) + "12 a1 UPDATED STATUS:Ready\n24 a1 UPDATED STATUS:Done", want: `
		VelocityWeek 1`},
	{name: "a week in Auckland begins at noon in London", edit: inZone("Pacific/Auckland"), at: 28.5,
		log: done(1, "first", 20, 21.5) + done(1, "last", 20, 28.25) + done(1, "early", 20, 21.25), want: `
		VelocityWeek 2`},
	{name: "limits", log: old + weekly(baseline, 5, 7, 6, 8, 5, 7, 6, 8, 5, 7, 6, 8, 6), want: `
		VelocityMean 6.461538
		VelocityLower 1.363205
		VelocityUpper 11.559872`}, // 84/13 ∓ 2.66 × 23/12
	{name: "there are no negative items", log: old + weekly(baseline, 1, 9, 1, 9, 1, 9, 1, 9, 1, 9, 1, 9, 1), want: `
		VelocityMean 4.692308
		VelocityLower 0
		VelocityUpper 25.972308`},
	{name: "edges of the baseline", log: old + weekly(baseline, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4) +
		done(13, "first", -160, baseline) + done(13, "after", -70, -62) + done(13, "before", -160, -153.5), want: `
		VelocityMean 5
		VelocityLower 2.118333
		VelocityUpper 7.881667`}, // 17 in the first week
	{name: "the baseline stays while the last week began in the quarter", at: 42.9, log: old + weekly(baseline, fives...) + weekly(-62, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8), want: `
		VelocityMean 5
		VelocityLower 5
		VelocityUpper 5`},
	{name: "and moves on with the first that began in the next", at: 43, log: old + weekly(baseline, fives...) + weekly(-62, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8), want: `
		VelocityMean 8`},
	// 1 January and 1 April 2024 are Mondays.
	{name: "a quarter that begins with a week", at: -783, log: "-1000 a CREATED STATUS:Ready\n" + weekly(-881, fives...) + weekly(-972, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7), want: `
		VelocityMean 5`},
	{name: "the quarter before it", at: -783.5, log: "-1000 a CREATED STATUS:Ready\n" + weekly(-881, fives...) + weekly(-972, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7), want: `
		VelocityMean 7`},
	{name: "six weeks after the first entry", log: "-104.5 first CREATED STATUS:Ready\n" + weekly(-104, 4, 4, 4, 4, 4, 4), want: `
		VelocityMean 4
		VelocityLower 4
		VelocityUpper 4`},
	{name: "five weeks, for that of the first entry does not count", log: "-104 first CREATED STATUS:Ready\n" + weekly(-104, 4, 4, 4, 4, 4, 4), want: `
		VelocityMean -
		VelocityLower -
		VelocityUpper -`},
	{name: "few a week have the limits of chance", log: old + weekly(baseline, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1), want: `
		VelocityMean 1
		VelocityLower 0
		VelocityUpper 4`},
	{name: "51 in 13 weeks are few", log: old + weekly(baseline, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 3), want: `
		VelocityMean 3.923077
		VelocityLower 0
		VelocityUpper 10`},
	{name: "none a week", log: old, want: `
		VelocityMean 0
		VelocityLower 0
		VelocityUpper 0`},
}

// timed completes three items in a week from a day on, the middle one after so
// many days.
func timed(week, days float64) string {
	name := fmt.Sprintf("w%v_", week)
	return done(1, name+"a", week+0.5, week+1) + done(1, name+"b", week+0.5, week+0.5+days) + done(1, name+"c", week-8, week+1)
}

var timeCases = []signalCase{
	{name: "the middle one of three", log: done(1, "a", 21, 22) + done(1, "b", 22, 24) + done(1, "c", 20, 24), want: `
		TimeWeek 2d`},
	{name: "the lower of the two in the middle", log: done(1, "a", 21, 22) + done(1, "b", 22, 24) + done(1, "c", 20, 24) + done(1, "d", 16, 24), want: `
		TimeWeek 2d`},
	{name: "two with a start are too few", log: done(1, "a", 21, 22) + done(1, "b", 22, 24) + "20 c CREATED STATUS:Backlog\n23 c UPDATED STATUS:Done", want: `
		VelocityWeek 3
		TimeWeek -`},
	// Medians of 2 and 4 days in turn: their logarithms are ln √8 on average and ln
	// 2 apart. The weeks between have two items, and are left out.
	{name: "limits of six weeks", log: old + timed(-153, 2) + timed(-139, 4) + timed(-125, 2) + timed(-111, 4) + timed(-97, 2) + timed(-83, 4) +
		weekly(-146, 2, 0, 2, 0, 2, 0, 2), want: `
		TimeLower 0.447512535464d
		TimeUpper 17.876594209156d`}, // √8 × 2^∓2.66
	{name: "five weeks are too few", log: old + timed(-153, 2) + timed(-139, 4) + timed(-125, 2) + timed(-111, 4) + timed(-97, 2), want: `
		TimeLower -
		TimeUpper -`},
	{name: "the week of the first entry does not count", log: done(3, "a", -152, -150) + timed(-139, 4) + timed(-125, 2) + timed(-111, 4) + timed(-97, 2) + timed(-83, 4), want: `
		TimeLower -
		TimeUpper -`},
}

var reopenCases = []signalCase{
	{name: "a reopening as the 7 days begin", log: done(2, "a", 20, 21) + "22 a1 UPDATED STATUS:Ready\n21.5 a2 UPDATED STATUS:Ready", want: `
		Reopened 1`},
	{name: "a reopening at T", log: done(1, "a", 20, 21) + "29 a1 UPDATED STATUS:Ready", want: `
		Reopened 0`},
	{name: "a slip is none", edit: func(v *flow.ValueStream) { v.Workflow.ReopenGrace = day }, log: done(1, "a", 20, 22) + "23 a1 UPDATED STATUS:Ready\n23.5 a1 UPDATED STATUS:Done", want: `
		Reopened 0`},
	{name: "limit", log: done(20, "base", -56, -55) + lines(3, "0 base%d UPDATED STATUS:Ready") + done(4, "now", 20, 22), want: `
		ReopenedLimit 3`}, // 3.5 / 20 × 4 = 0.7 are to be expected: P(2 or fewer) is 0.966
	{name: "limit without a reopening before", log: done(20, "base", -56, -55) + done(4, "now", 20, 22), want: `
		ReopenedLimit 1`}, // 0.1: P(0) is 0.905
	{name: "limit without a completion now", log: done(10, "base", -56, -55), want: `
		ReopenedLimit 0`},
	{name: "limit by too few", log: done(9, "base", -56, -55) + done(10, "early", -56, -55.5) + done(10, "now", 20, 22), want: `
		ReopenedLimit -`},
}
