package connector_test

import (
	"errors"
	"testing"

	"github.com/flowmetrics/flowmetrics/internal/connector"
)

func TestRegistry(t *testing.T) {
	var got connector.Spec
	r := connector.Registry{
		"one": func(s connector.Spec) (connector.Source, error) { got = s; return sourceFunc(none), nil },
		"two": func(connector.Spec) (connector.Source, error) { return nil, errBroken },
	}
	if source, err := r.New("one", connector.Spec{Name: "a", Path: "p"}); err != nil || source == nil || got.Name != "a" || got.Path != "p" {
		t.Errorf("New = %v, %v with %+v", source, err, got)
	}
	if _, err := r.New("two", connector.Spec{Name: "b"}); !errors.Is(err, errBroken) || err.Error() != "make source b: broken" {
		t.Errorf("error %v", err)
	}
	if _, err := r.New("three", connector.Spec{Name: "main"}); err == nil || err.Error() != `source main: type "three" is not built in, want one of one, two` {
		t.Errorf("error %v", err)
	}
}
