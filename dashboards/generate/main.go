// Command generate writes the dashboards for Grafana into a directory:
//
//	cd dashboards/generate && go run . ..
//
// What it writes is the classic schema of Grafana 9.3, which later releases
// migrate when they load it. The same program always writes the same bytes.
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: generate DIRECTORY")
		os.Exit(2)
	}
	for file, d := range map[string]page{
		"weekly-operating-review.json":  weekly(),
		"monthly-portfolio-review.json": monthly(),
		"quarterly-review.json":         quarterly(),
		"leading-indicators.json":       leading(),
		"service-health.json":           service(),
	} {
		if err := write(filepath.Join(os.Args[1], file), d); err != nil {
			fmt.Fprintln(os.Stderr, "generate:", err)
			os.Exit(1)
		}
	}
}

// write writes a dashboard with the operators of PromQL unescaped, so that a
// change can be read.
func write(file string, d page) error {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(d); err != nil {
		return fmt.Errorf("encode dashboard: %w", err)
	}
	return os.WriteFile(file, b.Bytes(), 0o644)
}
