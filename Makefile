# Visavis. `make run` opens the window, `make test` proves it works. See docs/testing.md.

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help run test fmt clippy lint test-unit test-integration test-doc bench bench-window bench-signaling soak soak-call deny clean cargo \
	test-camera test-wayland packages-build packages-run packages-test packages-wayland

# Where rustup puts it, for shells that have not read its environment yet.
export PATH := $(PATH):$(HOME)/.cargo/bin
CARGO ?= cargo
# Arguments for `make run`, e.g. ARGS="call tea --video-source testcard".
ARGS ?=
# What `make run` builds in besides, e.g. FEATURES=wayland: sharing the screen of a Wayland session.
FEATURES ?=

help: ## Say what there is
	@echo 'make run ARGS="..."   install what is missing, build, open the window'
	@echo 'make run FEATURES=wayland    ... which can share the screen of a Wayland session'
	@echo 'make test             everything below, in this order'
	@echo '  make fmt              formatting'
	@echo '  make lint             lints while building, warnings are errors (make clippy: lints alone)'
	@echo '  make test-unit        unit tests'
	@echo '  make test-integration real servers, browsers and sound, one at a time'
	@echo '  make test-doc         examples in the documentation'
	@echo 'make test-camera      cameras with real drivers, in a virtual machine that is downloaded'
	@echo 'make test-wayland     sharing the screen of a Wayland session, in one without a screen'
	@echo 'make bench            calls over emulated networks beside Chromium calling Chromium'
	@echo 'make bench-window     what a call and the idle window cost, beside Chromium'
	@echo 'make bench-signaling  the signaling server under load, beside Node with socket.io'
	@echo 'make soak         an hour of guests and accidents; SOAK_SECONDS=600 for less'
	@echo 'make soak-call    two hours of one call between sound cards that disagree'
	@echo 'make deny             licences and advisories of the dependencies (needs cargo-deny)'
	@echo 'make clean            remove what was built'

run: packages-run cargo
	$(CARGO) run --locked --release --package visavis --bin visavis --features '$(FEATURES)' -- $(ARGS)

# The packages first: whoever must install them by hand is told at once.
test: packages-test fmt lint test-unit test-integration test-doc

fmt: cargo
	$(CARGO) fmt --all --check

clippy: packages-build cargo
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings

# The same, with the build that the tests use: `cargo clippy` alone compiles every dependency once more, six minutes on
# two cores.
lint test-unit test-integration test-doc test-camera test-wayland: export RUSTC_WORKSPACE_WRAPPER = clippy-driver
lint test-unit test-integration test-doc test-camera test-wayland: export CLIPPY_ARGS = -D__CLIPPY_HACKERY__warnings__CLIPPY_HACKERY__
lint: packages-build cargo
	$(CARGO) build --locked --workspace --all-targets

# A failing test does not keep the rest from being tried; the whole still fails.
test-unit: packages-build cargo
	$(CARGO) test --locked --workspace --no-fail-fast --lib --bins

# Those that play or call in real time run one by one.
RUNNER = target.'cfg(unix)'.runner = '.ci/run-test'
test-integration: packages-test cargo
	$(CARGO) test --locked --workspace --no-fail-fast --config "$(RUNNER)" --test '*'

test-doc: packages-build cargo
	$(CARGO) test --locked --workspace --no-fail-fast --doc

CAMERA_VM = target.'cfg(unix)'.runner = 'media/tests/camera_vm/run'
test-camera: packages-build cargo
	$(CARGO) test --locked --workspace --config "$(CAMERA_VM)" --test camera -- --ignored --test-threads=1 $(CAMERA_TESTS)

WAYLAND_SESSION = target.'cfg(unix)'.runner = 'media/tests/wayland/run'
WAYLAND = --locked --workspace --features visavis/wayland
test-wayland: packages-wayland cargo
	$(CARGO) test $(WAYLAND) --lib wayland::
	$(CARGO) test $(WAYLAND) --config "$(WAYLAND_SESSION)" --test wayland -- --ignored --test-threads=1

# A quiet machine, please: they compare delays and CPU times.
bench: packages-test cargo
	$(CARGO) build --locked --release --package visavis
	$(CARGO) bench --locked --package visavis --bench calls --profile dev -- $(BENCH_ARGS)

bench-window: packages-run packages-test cargo
	$(CARGO) build --locked --release --package visavis
	$(CARGO) bench --locked --package visavis --bench versus --profile dev -- $(BENCH_ARGS)

# Likewise; needs Node and npm for the yardstick. Abusers instead: BENCH_ARGS=--abuse
bench-signaling: packages-build cargo
	$(CARGO) build --locked --release --package visavis-signaling
	$(CARGO) bench --locked --package visavis-signaling --bench load -- $(BENCH_ARGS)

# Two hours, unless SOAK_CALL_SECONDS says otherwise. SOAK_CALL_ARGS="--clip small.y4m" leaves the machine to others.
SOAK_CALL_SECONDS ?= 7200
soak-call: packages-test cargo
	$(CARGO) build --locked --release --package visavis
	$(CARGO) bench --locked --package visavis --bench calls --profile dev -- --soak --profiles lan --warmup 20 \
		--seconds $(SOAK_CALL_SECONDS) $(SOAK_CALL_ARGS)

soak: packages-build cargo
	$(CARGO) build --locked --release --package visavis-signaling
	$(CARGO) bench --locked --package visavis-signaling --bench soak --profile dev -- $(SOAK_ARGS)

deny: cargo
	$(CARGO) deny --locked --workspace check

clean: cargo
	$(CARGO) clean

cargo:
	@command -v $(CARGO) >/dev/null || { \
		echo 'Rust is missing: install it as https://rustup.rs says, then run make again.' >&2; exit 1; }

packages-build:
	@.ci/packages build

packages-run:
	@.ci/packages build run $(FEATURES)

packages-test:
	@.ci/packages build test

packages-wayland:
	@.ci/packages build test-wayland
