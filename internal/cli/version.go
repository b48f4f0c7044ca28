package cli

import (
	"fmt"
	"runtime"
	"runtime/debug"
)

// Version is set by the linker.
var Version = "devel"

type versionCmd struct{}

func (versionCmd) Help() string { return example("flowmetrics version") }

func (versionCmd) Run(env *environment) error {
	_, err := fmt.Fprintf(env.Out, "flowmetrics %s (revision %s, %s %s/%s)\n", Version, revision(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
	return err
}

// revision returns the commit that the binary was built from, where it is known.
func revision() string {
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				return s.Value
			}
		}
	}
	return "unknown"
}
