package flow

// A heading is what makes an item's numbers less certain. An item is under the
// first one that fits (R15).
type heading uint8

const (
	headNone heading = iota
	headIgnored
	headBornDone
	headLeftCensored
	headWithoutStart
	headNeverActive
)

// heading gives the item's heading under the timeline's workflow.
func (t *timeline) heading() heading {
	last := &t.segments[len(t.segments)-1]
	if t.effective().itemType == Ignored {
		return headIgnored
	}
	if !t.leftCensored && t.alwaysDone() {
		return headBornDone
	}
	if t.leftCensored {
		return headLeftCensored
	}
	if last.state != Done {
		return headNone
	}
	started, active := false, false
	for k := range t.segments {
		seg := &t.segments[k]
		started = started || seg.flowing()
		active = active || seg.flowing() && seg.state == Active
	}
	switch {
	case !started:
		return headWithoutStart
	case !active:
		return headNeverActive
	}
	return headNone
}

// effective gives the class that counts now: of a done item the one with which
// it was completed, since later edits change nothing (case 8, R12).
func (t *timeline) effective() *class {
	k := len(t.segments) - 1
	for t.segments[k].state == Done && k > 0 && t.segments[k-1].state == Done {
		k--
	}
	return t.segments[k].class
}

func (t *timeline) alwaysDone() bool {
	for k := range t.segments {
		if t.segments[k].state != Done {
			return false
		}
	}
	return true
}

// lastMember returns the latest segment in which any value stream includes the
// item, and the first of these value streams in the policy; ok is false where
// it never was in one.
func (t *timeline) lastMember() (segment, stream int, ok bool) {
	for k := len(t.segments) - 1; k >= 0; k-- {
		if streams := t.segments[k].class.streams; len(streams) > 0 {
			return k, streams[0], true
		}
	}
	return 0, 0, false
}

// qualify counts an item, seen under each workflow, once: under that of the
// value stream it was last in.
func (q *Quality) qualify(l *Ledger, lines []timeline, by int) {
	var best *timeline
	bestSegment, bestStream := -1, 0
	for i := range lines {
		k, stream, ok := lines[i].lastMember()
		if ok && (k > bestSegment || k == bestSegment && stream < bestStream) {
			best, bestSegment, bestStream = &lines[i], k, stream
		}
	}
	if best == nil {
		return
	}
	q.HistoryGaps += by * best.gaps
	switch best.heading() {
	case headIgnored:
		q.IgnoredByType += by
		return
	case headBornDone:
		q.BornDone += by
	case headLeftCensored:
		q.LeftCensored += by
	case headWithoutStart:
		q.CompletedWithoutStart += by
	case headNeverActive:
		q.CompletedNeverActive += by
	}
	for _, status := range best.unmapped {
		name := l.values.list[status].Name
		if name == "" {
			name = "id:" + l.values.list[status].ID
		}
		count(q.UnmappedStatuses, name, by)
	}
	last := &best.segments[len(best.segments)-1]
	if last.unmapped && last.state != Gone && len(last.class.streams) > 0 {
		count(q.UnmappedItems, l.texts.list[best.source], by)
	}
}

func count(m map[string]int, key string, by int) {
	if m[key] += by; m[key] == 0 {
		delete(m, key)
	}
}
