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

// A Rejection points at something in the log that cannot be used, with its
// reason. The message itself stays in the log.
type Rejection struct {
	Position uint64    `json:"position"`     // of the message in the log
	Index    int       `json:"index"`        // of the change in its batch, -1 for the whole batch
	Received time.Time `json:"received"`     // when the log took the message
	Subject  string    `json:"subject"`      // where it was published
	Source   string    `json:"source"`       // as far as it could be read
	ID       string    `json:"id,omitempty"` // as far as it could be read
	Reason   Reason    `json:"reason"`       // one of few words
	Detail   string    `json:"detail"`       // for a person: what, where, what was expected
}
