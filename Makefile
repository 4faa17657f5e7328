# make prints what there is. Nothing else is needed to contribute.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

BIN := bin/strongroom
GO ?= go
FUZZTIME ?= 20s
TORTURE ?= 10
SEED ?=
FAMILY ?=
KILLS ?= 200
SEEDS ?= 1000
SECRETS ?= 1000000
EVENTS ?= 10000000
# Unit packages run with the race detector; test/ starts real processes, which
# it would not look into, and floods a small machine when run at once.
UNIT = $$($(GO) list ./... | grep -v '/strongroom/test/')
E2E = $$($(GO) list ./test/...)
# Packages with files of the build that stands for the next release.
NEXT = ./fsm ./engine

.PHONY: help
help: ## Print this help
	@awk 'BEGIN { FS = ":.*## " } /^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: deps
deps: ## Install SoftHSM, OpenSC and a C compiler if they are missing (apt-get)
	@.ci/deps

.PHONY: testdeps
testdeps: ## The same, and what the tests want (NSS, openCryptoki, PostgreSQL, MariaDB, Prometheus, Chromium)
	@.ci/deps test

.PHONY: build
build: ## Build bin/strongroom
	CGO_ENABLED=1 $(GO) build -trimpath -o $(BIN) ./cmd/strongroom

.PHONY: run
run: deps build ## Run a cluster of three nodes in .strongroom; Ctrl-C stops it
	@exec $(BIN) dev --nodes 3 --dir .strongroom

.PHONY: test
test: testdeps ## Every test that CI runs
	$(GO) test -race -count=1 -timeout 20m -p 2 $(UNIT)
	$(GO) test -count=1 -timeout 20m -tags levelnext -run Level ./fsm
	$(GO) test -count=1 -timeout 40m -p 1 $(E2E)

.PHONY: check
check: lint test ## What CI runs: lint and every test

.PHONY: lint
lint: ## gofmt, go vet, staticcheck
	@unformatted="$$(gofmt -l $$(git ls-files --cached --others --exclude-standard '*.go'))"; \
	if [ -n "$$unformatted" ]; then echo "gofmt -w $$unformatted" >&2; exit 1; fi
	$(GO) vet ./...
	$(GO) vet -tags levelnext $(NEXT)
	cd test/objectstore/server && $(GO) vet ./...
	$(GO) tool staticcheck ./...

.PHONY: race
race: testdeps ## Every test, with the race detector everywhere
	$(GO) test -race -count=1 -timeout 40m -p 1 ./...

.PHONY: fuzz
fuzz: ## Each fuzz target for FUZZTIME (20s; FUZZTIME=10m for a long run)
	@grep -rlE '^func Fuzz' --include='*_test.go' . | sort | while read -r file; do \
	  for target in $$(sed -nE 's/^func (Fuzz[A-Za-z0-9_]+)\(.*/\1/p' "$$file"); do \
	    echo "== $$target in $$(dirname "$$file")"; \
	    $(GO) test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 2s "$$(dirname "$$file")" || exit 1; \
	  done; \
	done

.PHONY: bench
bench: deps build ## Measure a local cluster against the floors of this machine
	@.ci/bench

.PHONY: bench-failover
bench-failover: deps build ## Kill, freeze and hand over leaders of a local cluster, and time how long nobody is served
	$(GO) run ./test/bench/failover

.PHONY: bench-trail
bench-trail: ## Write an audit trail with EVENTS events (10000000) over 30 days, and ask for hours; wants 12 GiB of disk
	$(GO) run ./test/scale/trail -n $(EVENTS)

.PHONY: bench-million
bench-million: ## Load a state machine with SECRETS secrets (1000000): memory, snapshot, pages; wants 12 GiB
	$(GO) run ./test/scale/million -n $(SECRETS)

.PHONY: noticing
noticing: ## Replay a month of made-up traffic: false alarms of the detectors, and how soon attacks are noticed
	$(GO) run ./test/noticing/month

.PHONY: sim
sim: ## Run SEEDS schedules of faults (1000) over simulated clusters
	STRONGROOM_SIM_SEEDS=$(SEEDS) $(GO) test -v -count=1 -timeout 600m -run Schedules ./test/sim

.PHONY: torture
torture: testdeps ## Faults of network, processes, disks and HSMs under load for TORTURE minutes (10); SEED=… replays, FAMILY=… leaves one family; as root
	STRONGROOM_TORTURE=$(TORTURE) STRONGROOM_SEED=$(SEED) STRONGROOM_FAMILY="$(FAMILY)" $(GO) test -v -count=1 -timeout 0 -run '^TestTorture$$' ./test/torture

.PHONY: upgrade
upgrade: testdeps ## Bring a cluster of the last release (test/e2e/testdata/last-release) to this source, and to the next one, under load
	STRONGROOM_UPGRADE=1 $(GO) test -v -count=1 -timeout 60m -run '^TestARollingUpgradeFailsNoOperation$$' ./test/e2e

.PHONY: torture-audit
torture-audit: deps build ## Kill nodes KILLS times (200) under load and hold every answer against the audit trails
	STRONGROOM_AUDIT_KILLS=$(KILLS) $(GO) test -v -count=1 -timeout 120m -run KilledNodesOweNoEvent ./test/e2e

.PHONY: cover
cover: testdeps ## Coverage of all tests, in coverage.out
	$(GO) test -count=1 -timeout 20m -p 2 -coverpkg=./... -coverprofile=coverage.out $(UNIT)
	@$(GO) tool cover -func=coverage.out | tail -1

.PHONY: docs
docs: build ## Renew docs/ and the typed client from the code
	@.ci/docs

.PHONY: clean
clean: ## Remove what was built; .strongroom, which holds data, stays
	rm -rf bin coverage.out bench.json
