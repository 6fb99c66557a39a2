# The everyday commands; `make` alone lists them. Tools are installed in .bin/, except
# by test-needs, systemd, promtool and chromium.

GOLANGCI_LINT_VERSION := v2.15.0
GOVULNCHECK_VERSION   := v1.9.0
NFPM_VERSION          := v2.45.2
CYCLONEDX_VERSION     := v1.10.0
VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
FUZZTIME ?= 10s

GOLANGCI_LINT := .bin/golangci-lint-$(GOLANGCI_LINT_VERSION)
GOVULNCHECK   := .bin/govulncheck-$(GOVULNCHECK_VERSION)
NFPM          := .bin/nfpm-$(NFPM_VERSION)
CYCLONEDX     := .bin/cyclonedx-gomod-$(CYCLONEDX_VERSION)
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "%-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: build
build: ## build bin/kyclink, a static binary
	CGO_ENABLED=0 go build -trimpath -ldflags '-s -w -X main.version=$(VERSION)' -o bin/kyclink ./cmd/kyclink

.PHONY: demo
demo: build ## the main job: 500 invented people in, their links out, through a simulated FaceKi
	@deploy/demo.sh bin/kyclink

# Most tests wait more than they work, so two packages for each processor are
# tested at once. vet is part of make lint. go test links no debug information, so none
# is compiled; that and GOGC save a third of the processor time of a build. kyclink is
# compiled without inlining: every package that mentions a client of go-redis 9.23 compiles
# 1,500 wrappers of its methods, in which calls would be inlined for twice the time. The
# tests of worker begin first, because they wait for 40 s and would otherwise end alone.
PACKAGES_AT_ONCE := $(shell echo $$((2 * $$(getconf _NPROCESSORS_ONLN))))

.PHONY: test
test: test-needs ## install redis-server if it is missing, and run all tests with the race detector
	GOGC=400 go test -race -vet=off -gcflags=all=-dwarf=false -gcflags='./...=-dwarf=false -l' -p $(PACKAGES_AT_ONCE) -timeout=30m ./worker ./...

.PHONY: test-long
test-long: test-needs ## the same, with the long tests and in random order
	go test -race -count=1 -shuffle=on -timeout=60m -tags=long ./...

.PHONY: test-redis
test-redis: test-needs valkey ## the core suite over every kind of Redis: single, TLS with permissions, sentinel, cluster, Valkey
	go test -race -count=1 -timeout=30m -tags=long ./cmd/kyclink -run '^TestCore$$' -v

# Builds the program of the previous version from the history, the first time, which takes
# a minute of a processor.
.PHONY: test-upgrade
test-upgrade: test-needs ## test that the previous version works beside today's on one Redis
	go test -count=1 -timeout=30m -tags=long ./internal/chaos -run '^TestUpgrade'

# The operator console in a real Chromium, with real processes.
.PHONY: test-browser
test-browser: test-needs chromium ## install Chromium if it is missing, and test the operator console in it
	go test -count=1 -timeout=30m -tags=browser ./internal/browsertest

.PHONY: screenshots
screenshots: test-needs chromium ## write pictures of all pages of the operator console to screenshots/
	go test -count=1 -timeout=15m -tags=browser,screenshots ./internal/browsertest -screenshots=$(CURDIR)/screenshots

# deploy is a module of its own: what its tests need (Helm, types of Kubernetes) stays out
# of the program. Compiling them takes two minutes of a processor, the first time.
.PHONY: test-deploy
test-deploy: build test-needs systemd promtool ## test the chart, the compose file, alerts, dashboards and the units of systemd, without a cluster
	cd deploy && GOGC=400 go test -count=1 -vet=off -timeout=20m ./...

# Measures bin/kyclink. bin/bench is built because a program under go run does not
# receive signals. BENCH holds its flags, such as -short, -run rate, -reps 1, -json FILE.
BENCH ?=

.PHONY: bench
bench: build test-needs ## all figures beside their targets, in 40 minutes, also to bin/bench.json; BENCH='-run rate -reps 1' for less
	@go build -o bin/bench ./internal/bench
	@exec bin/bench -json bin/bench.json $(BENCH)

.PHONY: bench-long
bench-long: build test-needs ## the same with longer outages and larger backlogs, in hours
	@go build -o bin/bench ./internal/bench
	@exec bin/bench -long $(BENCH)

# Breaks workers, Redis, FaceKi and the network by a schedule that follows from SEED, and
# checks the result. CHAOS holds more flags, such as -only kill.
DURATION ?=
SEED ?=
CHAOS ?=

.PHONY: chaos
chaos: test-needs ## break everything for DURATION (60s) by SEED (any), and check that nothing is lost
	@CGO_ENABLED=0 go build -trimpath -tags failpoint -ldflags '-X main.callbackPace=20' -o bin/kyclink-failpoint ./cmd/kyclink
	@go build -o bin/chaos ./internal/chaos
	@exec bin/chaos -duration $(or $(DURATION),60s) $(if $(SEED),-seed $(SEED)) $(CHAOS)

# Runs bin/kyclink at a steady load, measures what could grow, and plots it. SOAK holds more
# flags, such as -rate 50, -workers 4, -dir DIRECTORY.
SOAK ?=

.PHONY: soak
soak: build test-needs ## run everything at a steady load for DURATION (30m), plot memory, goroutines, descriptors and keys, and fail if they grow
	@go build -o bin/soak ./internal/soak
	@exec bin/soak -duration $(or $(DURATION),30m) $(SOAK)

# Pages that are generated from the code; tests compare them with it.
.PHONY: docs
docs: ## write the generated pages of docs again, from the code
	go test ./internal/doctest -count=1 -run 'PageMatches' -update-docs
	go test ./internal/bench -count=1 -run '^TestBenchmarksPage' -update-docs
	go test ./cmd/kyclink -count=1 -run '^Test(CLIReference|GettingStarted)' -update-docs

.PHONY: dashboards
dashboards: ## write the dashboards of Grafana again, from the code
	cd deploy && go run ./grafana/generate grafana

.PHONY: man
man: ## write man pages to man/
	CGO_ENABLED=0 go test -trimpath -vet=off -count=1 ./cmd/kyclink -man $(CURDIR)/man

# From the commit that is checked out: archives, packages, SBOMs, checksums, and the notes
# that CHANGELOG.md has for its tag.
.PHONY: release
release: $(CYCLONEDX) ## what is published of a version, for all platforms, in dist/
	@nfpm=$(NFPM); \
	$(MAKE) --silent $$nfpm || { nfpm=; echo 'nfpm cannot be installed: there will be no .deb and .rpm' >&2; }; \
	(cd deploy && go build -o ../bin/release ./release); \
	exec bin/release -out dist -nfpm "$$nfpm" -cyclonedx-gomod $(CYCLONEDX)

# The second time from another folder, and without what was compiled before.
.PHONY: release-check
release-check: $(CYCLONEDX) ## make the release twice, and compare every byte
	@$(MAKE) --silent $(NFPM) || true
	@work=$$(mktemp -d); trap 'rm -rf "$$work"' EXIT; commit=$$(git rev-parse HEAD); \
	build() { \
	  git clone --quiet --no-checkout . "$$1"; git -C "$$1" checkout --quiet --detach "$$commit"; \
	  $(MAKE) -C "$$1" release NFPM=$(abspath $(NFPM)) CYCLONEDX=$(abspath $(CYCLONEDX)); \
	}; \
	build "$$work/first"; \
	GOCACHE=$$work/cache build "$$work/another/folder"; \
	diff -r "$$work/first/dist" "$$work/another/folder/dist"; \
	cat "$$work/first/dist/SHA256SUMS"; echo 'the same bytes twice'

.PHONY: fuzz
fuzz: ## every fuzz target for FUZZTIME (10s) each
	@grep -rl --include='*_test.go' '^func Fuzz' . | xargs -r -n1 dirname | sort -u | while read -r dir; do \
	  for target in $$(grep -ho '^func Fuzz[A-Za-z0-9_]*' "$$dir"/*_test.go | cut -d' ' -f2); do \
	    echo "$$dir $$target"; go test -run='^$$' -fuzz="^$$target\$$" -fuzztime=$(FUZZTIME) "$$dir"; \
	  done; done

.PHONY: lint
lint: $(GOLANGCI_LINT) ## golangci-lint (built from source the first time, which takes minutes)
	$(GOLANGCI_LINT) run --allow-parallel-runners
	cd deploy && $(CURDIR)/$(GOLANGCI_LINT) run --allow-parallel-runners

.PHONY: vuln
vuln: $(GOVULNCHECK) ## known vulnerabilities that the code reaches
	$(GOVULNCHECK) ./...

.PHONY: clean
clean: ## remove what was built and installed here
	rm -rf bin .bin dist man screenshots

# The file's name has the version, so that a new one is installed when the pin changes.
$(GOLANGCI_LINT):
	GOBIN=$(CURDIR)/.bin go install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI_LINT_VERSION)
	mv .bin/golangci-lint $@

$(GOVULNCHECK):
	GOBIN=$(CURDIR)/.bin go install golang.org/x/vuln/cmd/govulncheck@$(GOVULNCHECK_VERSION)
	mv .bin/govulncheck $@

# -trimpath: an SBOM has the checksum of the program that made it.
$(CYCLONEDX):
	GOBIN=$(CURDIR)/.bin go install -trimpath github.com/CycloneDX/cyclonedx-gomod/cmd/cyclonedx-gomod@$(CYCLONEDX_VERSION)
	mv .bin/cyclonedx-gomod $@

$(NFPM):
	GOBIN=$(CURDIR)/.bin go install -trimpath github.com/goreleaser/nfpm/v2/cmd/nfpm@$(NFPM_VERSION)
	mv .bin/nfpm $@

# apt_install is a command that installs Debian packages.
apt_install = sudo=; if [ "$$(id -u)" != 0 ]; then sudo=sudo; fi; \
	$$sudo apt-get update -qq && \
	$$sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends

# redis-server, and the C compiler for the race detector.
.PHONY: test-needs
test-needs:
	@missing=; \
	command -v redis-server >/dev/null || missing='redis-server'; \
	command -v "$$(go env CC)" >/dev/null || missing="$$missing gcc libc6-dev"; \
	if [ -z "$$missing" ]; then exit 0; fi; \
	echo "installing for the tests: $$missing"; \
	if command -v apt-get >/dev/null; then \
	  $(apt_install) $$missing >/dev/null; \
	elif command -v brew >/dev/null; then \
	  brew install --quiet $$(sed 's/redis-server/redis/; s/libc6-dev//' <<<"$$missing"); \
	else \
	  echo 'install redis-server (7.0 or newer) and a C compiler: neither apt-get nor brew is available' >&2; \
	  echo 'add them to PATH, then run make test again' >&2; \
	  exit 1; \
	fi

# valkey-server, for the core suite, which skips that part without it.
.PHONY: valkey
valkey:
	@if command -v valkey-server >/dev/null || ! command -v apt-get >/dev/null; then exit 0; fi; \
	{ $(apt_install) valkey-server >/dev/null; } || echo 'valkey-server is not available: the core suite is not run over it' >&2

# systemd-analyze, for the tests of the units.
.PHONY: systemd
systemd:
	@if command -v systemd-analyze >/dev/null; then exit 0; fi; \
	if command -v apt-get >/dev/null; then \
	  echo "installing for the tests: systemd"; \
	  $(apt_install) systemd >/dev/null; \
	else \
	  echo 'install systemd, then run make test-deploy again: apt-get is not available' >&2; \
	  exit 1; \
	fi

# promtool, for the tests of queries of Prometheus.
.PHONY: promtool
promtool:
	@if command -v promtool >/dev/null; then exit 0; fi; \
	if command -v apt-get >/dev/null; then \
	  echo "installing for the tests: prometheus"; \
	  $(apt_install) prometheus >/dev/null; \
	else \
	  echo 'install prometheus, which contains promtool, then run make test-deploy again: apt-get is not available' >&2; \
	  exit 1; \
	fi

# Chromium or Google Chrome, for the tests of the console.
.PHONY: chromium
chromium:
	@if command -v chromium >/dev/null || command -v google-chrome >/dev/null || [ -d '/Applications/Google Chrome.app' ]; then exit 0; fi; \
	if command -v apt-get >/dev/null; then \
	  echo "installing for the tests: chromium"; \
	  $(apt_install) chromium fonts-noto-core >/dev/null; \
	else \
	  echo 'install Chromium or Google Chrome, then run make test-browser again: apt-get is not available' >&2; \
	  exit 1; \
	fi
