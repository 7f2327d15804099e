# The commands of this project. `make` alone says what there is.

.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.ONESHELL:
MAKEFLAGS += --no-print-directory

target := $(or $(CARGO_TARGET_DIR),target)

# The external parts, for the suites that want them. A suite that finds its variable unset says "skipped: run make test".
define with_test_parts
	export TEST_VENV="$(CURDIR)/.test/venv"
	export TEST_NODE="$(CURDIR)/.test/node"
	export TEST_BROWSER="$$(<.test/browser)"
endef

.PHONY: help
help: ## this list
	@sed -n 's/^\([a-z-]*\):[^#]*## /\1\t/p' Makefile | expand -t 14

.PHONY: test
test: ## everything: prepares .test/ (see tests/setup.sh), then runs the whole suite; ARGS= goes to cargo test, SCREENSHOTS=1 keeps pictures of pages and mails in .test/screenshots
	@tests/setup.sh
	$(with_test_parts)
	# Most tests wait for a server or a browser most of their time.
	export RUST_TEST_THREADS="$${RUST_TEST_THREADS:-$$(( 2 * $$(nproc) ))}"
	cargo test --workspace --locked $(ARGS)

MUTILATED ?= 100000

.PHONY: mutilated
mutilated: ## mutilates MUTILATED reports (100000) of mail systems, none of which may suppress another recipient
	MUTILATED=$(MUTILATED) cargo test --lib --locked feedback::tests::a_mutilated_report -- --nocapture

KILLS ?= 5000
PORTAL_KILLS ?= 200

.PHONY: crash
crash: ## kills real workers KILLS times (5000) with each ledger, and portals PORTAL_KILLS times (200), and has an independent checker judge what is left; SEED= repeats
	@tests/setup.sh
	$(with_test_parts)
	cargo build --locked
	run() { "$$TEST_VENV/bin/python" "tests/crash/$$1.py" --program "$(target)/debug/handout" "$${@:2}"; }
	run selftest
	run crash --ledger sqlite --kills $(KILLS) $(if $(SEED),--seed $(SEED))
	run crash --ledger s3 --kills $(KILLS) $(if $(SEED),--seed $(SEED))
	run crash --condition all --kills 40 $(if $(SEED),--seed $(SEED))
	run portals --ledger sqlite --kills $(PORTAL_KILLS) $(if $(SEED),--seed $(SEED))
	run portals --ledger s3 --kills $(PORTAL_KILLS) $(if $(SEED),--seed $(SEED))
	run portals --trials 1000 $(if $(SEED),--seed $(SEED))

RUNS ?= 3

.PHONY: faults
faults: ## lets each dependency of a real daemon fail, RUNS times (3), and measures it from outside; ONLY= some scenarios, HOUR=1 an hour's outage
	@tests/setup.sh venv
	cargo build --release --locked
	.test/venv/bin/python tests/faults/faults.py --program "$(target)/release/handout" --runs $(RUNS) $(if $(ONLY),--only "$(ONLY)") $(if $(HOUR),--hour)

.PHONY: peers
peers: ## proves links, jobs, queues and mails against servers that people run; ONLY= some, QUICK=1 two of them, STRICT=1 nothing may be skipped
	@tests/setup.sh venv nginx chromium node
	$(with_test_parts)
	# With a test, as in `check`.
	cargo build --bin handout --test it --locked
	.test/venv/bin/python tests/peers/peers.py --program "$(target)/debug/handout" \
		$(foreach name,$(ONLY),--only "$(name)") $(if $(QUICK),--quick) $(if $(STRICT),--strict)

.PHONY: otlp
otlp: ## holds the export of spans (the feature otlp) to a receiver that shares no code with the program, also one that is down or hangs
	@tests/setup.sh otlp
	# With a test, which has the feature.
	cargo build --bin handout --test it --locked
	.test/otlp/bin/python tests/otlp/otlp.py "$(target)/debug/handout"

.PHONY: check
check: ## formatting, lints, documentation, dependencies (tests/deny.sh), the systemd unit, the files of deploy/ (tests/deploy.sh)
	@tests/setup.sh venv tools deploy
	set -x
	cargo fmt --all --check
	# With a test, so that its dependencies are those that `make test` has built, and not once more with fewer features.
	cargo build --bin handout --test it --locked
	# Daemons that are waited for, beside compilers.
	tests/deploy.sh "$(target)/debug/handout" >.test/deploy.log 2>&1 &
	deploy=$$!
	trap 'kill $$deploy 2>/dev/null || true' EXIT
	cargo clippy --workspace --all-targets --locked -- -D warnings
	# A build without the embedded endpoint and without the export of spans.
	cargo clippy --no-default-features --locked -- -D warnings
	# Users of presign who sign for S3 alone leave its feature out.
	cargo clippy -p presign --no-default-features --locked -- -D warnings
	RUSTDOCFLAGS=-Dwarnings cargo doc --workspace --no-deps --document-private-items --locked
	tests/deny.sh || {
		status=$$?
		{ set +x; } 2>/dev/null
		if [[ $$status -ne 77 ]]; then exit $$status; fi
		if [[ $${SKIP_ADVISORIES:-} != 1 ]]; then
			echo "check: to go without the advisories, say SKIP_ADVISORIES=1" >&2
			exit 1
		fi
		set -x
	}
	tests/unit_file.sh "$(target)/debug/handout" || {
		status=$$?
		{ set +x; } 2>/dev/null
		if [[ $$status -ne 77 ]]; then exit $$status; fi
		if [[ $${SKIP_SYSTEMD:-} != 1 ]]; then
			echo "check: to go without it, say SKIP_SYSTEMD=1" >&2
			exit 1
		fi
	}
	{ set +x; } 2>/dev/null
	status=0
	wait $$deploy || status=$$?
	trap - EXIT
	cat .test/deploy.log
	exit $$status

PROFILE ?= dist
# Of arm64 and amd64, the one that this machine is not, is cross-built: ARCH=arm64 on amd64.
ARCH ?= $(shell dpkg --print-architecture)
cross = $(filter-out $(shell dpkg --print-architecture),$(ARCH))
across = $(if $(cross),deploy/package/$(cross).sh)
packages = $(target)/package$(cross:%=-%)
packed = $(target)/$(if $(cross),aarch64-unknown-linux-gnu/)$(PROFILE:dev=debug)/handout

.PHONY: package
package: ## a Debian package, a tarball, an OCI image and bills of materials in target/package, from the profile dist; judged by tests/package.sh; MAINTAINER="Name <address>"; ARCH=arm64 cross-builds them into target/package-arm64
	@$(if $(filter-out arm64,$(cross)),$(error package: ARCH=$(cross) cannot be built on this machine))tests/setup.sh package $(cross)
	$(across) cargo build --profile $(PROFILE) --locked
	rm -rf "$(packages)"
	$(across) .test/package/bin/python deploy/package/build.py "$(packed)" "$(packages)"
	PROGRAM="$(packed)" $(across) tests/package.sh "$(packages)"

.PHONY: bench
bench: ## the numbers of the design; compare ratios within one run
	@tests/setup.sh venv portal-peers
	export TEST_VENV="$(CURDIR)/.test/venv"
	export BENCH_NODE="$(CURDIR)/.test/bench-node" BENCH_VENV="$(CURDIR)/.test/bench-venv"
	cargo bench --workspace --locked $(ARGS)

.PHONY: share
share: ## links to 10,000 objects under a prefix, beside `mc share download --recursive`: the CPU that each takes
	@tests/setup.sh venv
	tests/peers/servers.sh versitygw mc
	cargo build --release --locked
	.test/venv/bin/python benches/peers/share.py --program "$(target)/release/handout"

.PHONY: recipients
recipients: ## a job of 10,000 recipients with a prefix each: the CPU that each takes, and the memory
	cargo build --profile dist --locked
	python3 benches/recipients.py --program "$(target)/dist/handout"

.PHONY: fairness
fairness: ## when others have their mails beside slow recipients, and small jobs theirs beside a huge one; ONLY= some, WORLD=sqlite without servers
	@tests/setup.sh venv
	$(if $(filter sqlite,$(WORLD)),,tests/peers/servers.sh versitygw elasticmq)
	cargo build --release --locked
	.test/venv/bin/python benches/fairness.py --program "$(target)/release/handout" $(if $(ONLY),--only "$(ONLY)") $(if $(WORLD),--world $(WORLD))

SECONDS ?= 60

.PHONY: fuzz
fuzz: ## runs each fuzz target for SECONDS (60) and keeps what it finds in fuzz/artifacts/; TARGET= for one
	@tests/setup.sh tools
	export PATH="$(CURDIR)/.test/tools/bin:$$PATH"
	cargo fuzz build --sanitizer none --codegen-units 16 $(TARGET)
	for target in $(or $(TARGET),$$(cargo fuzz list)); do
		# What is learnt goes beside the build; the committed corpus is only read.
		mkdir -p "fuzz/target/corpus/$$target"
		cargo fuzz run --sanitizer none --codegen-units 16 "$$target" "fuzz/target/corpus/$$target" "fuzz/corpus/$$target" \
			-- -max_total_time=$(SECONDS) -max_len=16384 -timeout=10 -rss_limit_mb=2048 -print_final_stats=1
	done

.PHONY: screenshots
screenshots: ## the pictures of the README, taken of a real `handout demo`
	@tests/setup.sh
	$(with_test_parts)
	cargo build --release --locked
	tests/browser/screenshots.sh "$(target)/release/handout" docs

.PHONY: clean-test
clean-test: ## forgets .test/
	@rm -rf .test
