package flow

import "time"

// A Delivery is one message of the event log as its readers get it: the changes
// that can be used, and what was rejected of it.
type Delivery struct {
	Position uint64    // in the log, from 1 up
	Received time.Time // when the log took it
	Pending  uint64    // messages in the log behind this one when it was sent
	// Changes are valid during the call only; their strings may alias the
	// message and are cloned by whoever keeps them.
	Changes  []Change
	Rejected []Rejection
}

// A Rejection points at something that cannot be used, with its reason. A message
// of the log stays in the log; what came another way, as a line of a file or of a
// request, never gets there.
type Rejection struct {
	Position uint64    `json:"position"`     // of the message in the log, or of the last one when it was refused on the way there
	Index    int       `json:"index"`        // of the change in its batch, -1 for the whole batch; the line where it came in lines
	Received time.Time `json:"received"`     // when the log took the message, or when it was refused
	Subject  string    `json:"subject"`      // where it was published, or where else it came from, such as file:PATH
	Source   string    `json:"source"`       // as far as it could be read
	ID       string    `json:"id,omitempty"` // as far as it could be read
	Reason   Reason    `json:"reason"`       // one of few words
	Detail   string    `json:"detail"`       // for a person: what, where, what was expected
}
