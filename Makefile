# `make` alone lists the targets.
CARGO ?= cargo
PROFILE := ci
TARGET_DIR := $(if $(CARGO_TARGET_DIR),$(CARGO_TARGET_DIR),target)
BIN := $(TARGET_DIR)/$(PROFILE)
DASHBOARD := gateway/dashboard
REPORTS := target/report
# All crates at once, whatever of them is run: another choice would resolve other features and build much anew.
TESTS := $(CARGO) nextest run --cargo-profile $(PROFILE) --workspace --features hunhe-gateway/planted
# Tests that start a broker, a database or a whole gateway; the others need nothing but this folder.
SERVICES := (package(hunhe-tests) & kind(test) - binary(/^(tidy|mutants)$$/)) | binary_id(hunhe-edge-bin::alarms) \
	| binary_id(hunhe-edge-bin::outbox_and_broker) | (binary_id(hunhe-gateway::influx) & test(/^(database|influxdb)::/))
export TESTS_RECORDINGS ?= $(CURDIR)/../shared/data

.PHONY: help tools demo test bench sim alarms fleet acknowledgement kills overload faults siege power restart mutants campaign prepare dashboard build lint docs deny unit pipeline browser picture fuzz fixtures clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# Names what is missing and where it comes from, before make fails in words of its own.
tools:
	@command -v $(CARGO) >/dev/null || { echo "cargo is missing: install Rust 1.95 or newer from https://rustup.rs, then run this again"; exit 1; }
	@command -v npm >/dev/null || echo "npm is missing: install Node.js 20.19 or newer from https://nodejs.org for the page"

demo: tools dashboard ## a simulated city, the gateway and the live page in one terminal (Ctrl-C ends it)
	$(CARGO) build --profile $(PROFILE) -p hunhe-gateway
	$(BIN)/hunhe-gateway demo $(ARGS)

test: tools prepare ## everything: lint, docs, advisories, unit, end-to-end, browser
	@.ci/stages

prepare: ## install what the tests need (Debian packages, cargo tools); asks for root only if something is missing
	@.ci/prepare

dashboard: $(DASHBOARD)/dist/index.html ## build the page

$(DASHBOARD)/dist/index.html: $(wildcard $(DASHBOARD)/src/* $(DASHBOARD)/src/*/* $(DASHBOARD)/index.html $(DASHBOARD)/package-lock.json $(DASHBOARD)/*.ts) seeds/city/districts.geojson
	@if command -v npm >/dev/null; then cd $(DASHBOARD) && npm ci --no-audit --no-fund && npm run build; \
	else echo "npm is missing: the page is left out, the gateway serves its API and a page that says so"; fi

build: dashboard ## build the binaries that tests use (their gateway can drop a sample on purpose)
	$(CARGO) build --profile $(PROFILE) --workspace --bins --examples --features hunhe-gateway/planted

lint: ## rustfmt and clippy, also of the agent's field build; warnings are errors
	$(CARGO) fmt --all --check
	$(CARGO) clippy --profile $(PROFILE) --workspace --all-targets -- -D warnings
	$(CARGO) clippy --profile $(PROFILE) -p hunhe-edge-bin --no-default-features -- -D warnings

docs: ## rustdoc, warnings are errors
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --profile $(PROFILE) --workspace --no-deps --document-private-items

deny: ## licences, advisories, duplicates (uses a local advisory snapshot where the public one is out of reach)
	@.ci/deny

unit: ## unit, property and table tests of all crates, without broker or database; about 4 minutes once built
	$(TESTS) -E 'not ($(SERVICES) | binary_id(hunhe-fuzz::fuzz))'

pipeline: build ## tests with the real Mosquitto, VictoriaMetrics and InfluxDB, about 15 minutes
	TESTS_BIN_DIR=$(abspath $(BIN)) $(TESTS) --no-fail-fast -E '$(SERVICES)'

browser: build ## the page in Chromium, Chinese and English
	@.ci/browser

picture: browser ## the README's picture of the page, from the browser's run
	cp $(REPORTS)/browser/zh-dark.png $(DASHBOARD)/page.png

fuzz: ## every decoder against mutated input, INPUTS=1000000 over all, about a minute; SEED=n is another run
	TESTS_FUZZ_INPUTS=$(or $(INPUTS),1000000) $(if $(SEED),TESTS_FUZZ_SEED=$(SEED)) \
		$(TESTS) --success-output immediate -E 'binary_id(hunhe-fuzz::fuzz)'

fixtures: ## write seeds/fixtures again: what each format on disk looks like today
	$(CARGO) run --profile $(PROFILE) -p hunhe-gateway --example fixtures -- seeds/fixtures
	$(CARGO) run --profile $(PROFILE) -p hunhe-edge --example outbox_fixture -- seeds/fixtures

bench: ## what a reading costs, in the release profile, about 3 minutes once built; PEERS=1 adds two usual pipelines, GROWTH=1 a table
	$(MAKE) --no-print-directory build PROFILE=release
	TESTS_BIN_DIR=$(abspath $(TARGET_DIR)/release) $(TARGET_DIR)/release/hunhe-measure bench $(if $(PEERS),--peers) $(if $(GROWTH),--growth)

sim: build ## seeded histories of a small city with crashes and an oracle; SEEDS=2000, FROM=0, PROFILE=ci or release; overnight SEEDS=1000000
	mkdir -p $(REPORTS)
	$(BIN)/hunhe-sim --seeds $(or $(SEEDS),2000) $(if $(FROM),--from $(FROM)) --report $(REPORTS)/sim.json

alarms: build ## from a detector's report to a webhook, with a backlog of forty days beside it, about 2 minutes
	TESTS_BIN_DIR=$(abspath $(BIN)) $(BIN)/hunhe-measure alarms $(ARGS)

fleet: build ## a day of the whole city, about 238,000 devices, through the gateway; about 5 minutes
	TESTS_BIN_DIR=$(abspath $(BIN)) $(BIN)/hunhe-measure fleet $(ARGS)

acknowledgement: build ## from a delivery to its acknowledgement at 5,000 messages a second, half a minute
	TESTS_BIN_DIR=$(abspath $(BIN)) $(BIN)/hunhe-measure acknowledgement $(ARGS)

COUNT ?= 200
kills: build ## COUNT=200 SIGKILLs under load, about 12 minutes; SEED=n repeats the draws of one that was printed
	TESTS_BIN_DIR=$(abspath $(BIN)) $(BIN)/hunhe-measure kills --count $(COUNT) $(if $(SEED),--seed $(SEED)) $(ARGS)

overload: build ## ten times the load for a minute in 256 MiB; needs root for the memory limit, about a minute
	TESTS_BIN_DIR=$(abspath $(BIN)) $(BIN)/hunhe-measure overload $(ARGS)

faults: build ## each fault on the real programs, its figures in target/report/faults.json, about 10 minutes
	TESTS_BIN_DIR=$(abspath $(BIN)) $(TESTS) --no-fail-fast \
		-E 'package(hunhe-tests) & binary(/^(kills|links|misbehaviour|database_\w+|disk|restart|overload|acknowledgement|alerts|outputs|backup|http|flood)$$/)'

siege: build ## attackers one by one and all together beside honest readings and true alarms, about 6 minutes; ARGS="--only NAME"
	TESTS_BIN_DIR=$(abspath $(BIN)) $(BIN)/hunhe-measure siege $(ARGS)

IMAGES ?= 200000
power: ## IMAGES=200000 power cuts of journal and outbox, with further cuts in recovery, about 2 minutes
	TESTS_POWER_IMAGES=$(IMAGES) $(TESTS) -E 'test(power::)'

JOURNAL_MIB ?= 1024
restart: build ## a kill with JOURNAL_MIB=1024 in the journal, and the time to the first acknowledgement, about 2 minutes
	TESTS_JOURNAL_MIB=$(JOURNAL_MIB) TESTS_BIN_DIR=$(abspath $(BIN)) $(TESTS) -E 'binary_id(hunhe-tests::restart)'

mutants: build ## plant each bug of tests/mutants/mutants.toml in a copy and see the test that is named notice it; about half an hour
	mkdir -p $(REPORTS)
	$(BIN)/hunhe-mutants $(if $(ONLY),--only "$(ONLY)")

campaign: build ## the full figures about faults, summed up in tests/CAMPAIGNS.md; about three hours, goes on where it was cut off; PART=name
	$(BIN)/hunhe-measure campaign $(if $(PART),--part $(PART)) $(ARGS)

clean: ## remove what was built
	$(CARGO) clean
	rm -rf $(DASHBOARD)/dist $(DASHBOARD)/node_modules
