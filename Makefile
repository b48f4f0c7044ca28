# Go, make and git are needed, and npm for what tests check against; tools are
# pinned in internal/tools/go.mod.

BENCH    ?= .
FUZZTIME ?= 10s
RUN      ?= .
NAME     ?=
ARGS     ?=

VERSION    := $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
VERSION_IN := github.com/flowmetrics/flowmetrics/internal/cli.Version
TOOL       := go tool -modfile=$(CURDIR)/internal/tools/go.mod
PROMETHEUS := $(CURDIR)/.cache/prometheus
OCTOKIT    := $(CURDIR)/.cache/octokit

# The generator of the dashboards is a module of its own, which ./... leaves out.
IN_GENERATOR := cd dashboards/generate &&

SHELL       := bash
.SHELLFLAGS := -euo pipefail -c

export CGO_ENABLED = 0
export FLOWMETRICS_PROMETHEUS = $(PROMETHEUS)/prometheus
export FLOWMETRICS_PROMTOOL = $(PROMETHEUS)/promtool
export FLOWMETRICS_ALERTMANAGER = $(PROMETHEUS)/alertmanager
export FLOWMETRICS_AMTOOL = $(PROMETHEUS)/amtool
export FLOWMETRICS_OCTOKIT = $(OCTOKIT)

.DEFAULT_GOAL := help

.PHONY: help
help: ## Show this help
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: run
run: build ## Build and start the demo; ARGS are its flags
	bin/flowmetrics demo $(ARGS)

.PHONY: build
build: ## Build bin/flowmetrics
	go build -trimpath -ldflags '-s -w -X $(VERSION_IN)=$(VERSION)' -o bin/flowmetrics ./cmd/flowmetrics

.PHONY: test
test: prometheus octokit ## Run all tests; RUN picks some by name
	go test -shuffle=on -timeout 10m -run '$(RUN)' ./...

.PHONY: test-race
test-race: prometheus octokit ## Run all tests under the race detector (needs a C compiler)
	CGO_ENABLED=1 go test -race -shuffle=on -timeout 20m -run '$(RUN)' ./...

.PHONY: test-redmine
test-redmine: ## Test the Redmine connector against a real server (installs Debian's package where it is missing)
	.ci/redmine -run '$(RUN)'

.PHONY: check
check: fmt-check lint verify arch ## Check format, vet, staticcheck, generated code and the rules about the repository

.PHONY: lint
lint: ## Run go vet and staticcheck
	go vet ./...
	$(TOOL) staticcheck ./...
	$(IN_GENERATOR) go vet ./...
	$(IN_GENERATOR) $(TOOL) staticcheck ./...

.PHONY: fmt
fmt: ## Format all Go code
	gofmt -w cmd internal dashboards deploy

.PHONY: fmt-check
fmt-check: ## Fail on unformatted Go code
	@unformatted=$$(gofmt -l cmd internal dashboards deploy) && test -z "$$unformatted" || \
		{ echo "not formatted, run make fmt:"; echo "$$unformatted"; exit 1; }

.PHONY: arch
arch: ## Check the rules about the repository, the import table among them
	go test ./internal/archtest

.PHONY: generate
generate: ## Regenerate the committed generated code
	cd proto && $(TOOL) buf generate
	go generate ./...
	$(IN_GENERATOR) go run . ..

# Compares the files themselves and not with the last commit, so that it also
# tells the truth about a tree with uncommitted changes.
FILES = git ls-files -z -co --exclude-standard | { xargs -0 sha256sum 2>/dev/null || true; } | sort -k 2

.PHONY: verify
verify: ## Fail where generated code is not what make generate makes
	@mkdir -p .cache
	@$(FILES) >.cache/before
	$(MAKE) --no-print-directory generate
	@$(FILES) >.cache/after
	@diff .cache/before .cache/after >.cache/drift || \
		{ echo "generated code was out of date, commit what make generate has made now:"; sed -n 's/^>/ /p' .cache/drift; exit 1; }

.PHONY: new-connector
new-connector: ## Write the skeleton of a connector; NAME is the tracker's
	@go run ./internal/connector/newconnector '$(NAME)'

.PHONY: bench
bench: prometheus ## Run the benchmarks; BENCH picks some by name
	go test -run '^$$' -bench '$(BENCH)' -benchmem ./...

.PHONY: fuzz
fuzz: ## Run each fuzz target for FUZZTIME
	@go test -list '^Fuzz' ./... | awk '/^Fuzz/ { n[++i] = $$1 } /^ok/ { for (; i > 0; i--) print $$2, n[i] }' | \
		while read -r package target; do \
			echo "$$package $$target"; \
			go test -run '^$$' -fuzz "^$$target\$$" -fuzztime '$(FUZZTIME)' -fuzzminimizetime 1x "$$package" || exit 1; \
		done

.PHONY: tools
tools: prometheus octokit ## Fetch what tests check against, and build the pinned tools
	$(TOOL) buf --version
	$(TOOL) staticcheck -version

.PHONY: prometheus
prometheus: ## Fetch Prometheus and Alertmanager, which tests run
	@.ci/debian $(PROMETHEUS)

.PHONY: octokit
octokit: $(OCTOKIT)/package-lock.json ## Fetch what GitHub publishes about its interface, which tests check against

$(OCTOKIT)/package-lock.json: .ci/octokit/package-lock.json
	@.ci/octokit/fetch $(OCTOKIT)

.PHONY: clean
clean: ## Remove what was built
	rm -rf bin .cache
