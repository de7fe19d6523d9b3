# Procura's commands. `make` alone lists them.
#
# What a fresh machine lacks is installed through apt where root or sudo is at hand; otherwise the exact command is
# named. Everything but what is measured builds with the dev profile, so that RocksDB's C++ is compiled once for all of it;
# with a compiler cache once for both profiles.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help quickstart test soak lint bench bench-grpc bin bin-release build build-release example needs

# Relative to this folder unless absolute, as cargo takes it.
CARGO_TARGET_DIR ?= target
export CARGO_TARGET_DIR
TARGET := $(abspath $(CARGO_TARGET_DIR))
BINARY := $(TARGET)/debug/procura
RELEASE := $(TARGET)/release/procura
CARGO := $(shell command -v cargo 2>/dev/null || { [ -x "$$HOME/.cargo/bin/cargo" ] && echo "$$HOME/.cargo/bin/cargo"; } || echo cargo)

# A compiler cache, where there is one and nobody chose otherwise: RocksDB is the long part of a first build.
ifneq ($(shell command -v ccache 2>/dev/null),)
  ifeq ($(origin CXX),default)
    export CXX := ccache c++
  endif
  ifeq ($(origin CC),default)
    export CC := ccache cc
  endif
endif

help:
	@printf '%s\n' \
	  'make quickstart         build, start a server with an example, ask it 16 questions; leaves it running' \
	  'make quickstart ONCE=1  the same, and stops it: exits 0 when every answer was the expected one' \
	  'make test               all tests, and the validation files of schema-examples/' \
	  'make soak               the tests over random worlds, SOAK times as many (now: $(SOAK)), with a new seed, printed' \
	  'make lint               formatting and clippy, warnings denied' \
	  'make example            the engine in process, without a server' \
	  'make bench              all benchmarks in process, and one table of what they measured' \
	  'make bench-grpc         each world against a server of the optimised binary, over gRPC; SCALE=$(SCALE) SECONDS=$(SECONDS) MIX=$(MIX)' \
	  'make -s bin             build the binary if needed and print its path' \
	  'make -s bin-release     the same of the optimised one, which is what to measure' \
	  '' \
	  'CARGO_TARGET_DIR=DIR chooses the build folder (now: $(TARGET)).' \
	  'The first build compiles RocksDB: 10 to 15 minutes on two cores. After that, seconds.'

# Checks for what cargo cannot fetch; prints nothing when it is all there.
needs:
	@scripts/needs.sh

build: needs
	@[ -x '$(BINARY)' ] || echo 'building; the first time compiles RocksDB, 10 to 15 minutes on two cores' >&2
	@$(CARGO) build --locked --quiet --bin procura

# Nothing else may reach standard output: scripts take the path from it.
bin:
	@$(MAKE) --no-print-directory -s build 1>&2
	@printf '%s\n' '$(BINARY)'

quickstart: build
	@ONCE='$(ONCE)' PROCURA='$(BINARY)' scripts/quickstart.sh

test: needs
	$(CARGO) test --locked
	@$(MAKE) --no-print-directory -s build
	$(BINARY) test schema-examples/*.yaml

# A part fails with the seed that repeats it: PROCURA_SEED=SEED make soak.
SOAK ?= 10
PROCURA_SEED ?= $(shell od -An -N4 -tu4 /dev/urandom | tr -d ' ')

soak: needs
	@echo 'seed $(PROCURA_SEED), $(SOAK) times as much as make test'
	@export PROCURA_SEED='$(PROCURA_SEED)' PROCURA_DECISIONS=$$(($(SOAK) * 1000000)) PROCURA_LISTED=$$(($(SOAK) * 400000)) \
	  PROCURA_EXPLAINED=$$(($(SOAK) * 16000)) PROCURA_CONTEXTUAL_WORLDS=$$(($(SOAK) * 40)) \
	  PROCURA_LAID_OVER=$$(($(SOAK) * 8)) PROCURA_TREES=$$(($(SOAK) * 12)) PROCURA_KILLS=$$(($(SOAK) * 20)) PROCURA_ORDERS=$$(($(SOAK) * 4)) \
	  PROCURA_CHAINS=$$(($(SOAK) * 10000)) PROCURA_REVOCATIONS=$$(($(SOAK) * 10000)) \
	  PROCURA_NARROWED=$$(($(SOAK) * 30)); \
	$(CARGO) test --locked --test it -- --nocapture agrees:: order_of_writing:: acting:: acting_wire:: lists:: explain:: contextual:: laid_over:: hierarchy:: walk_shapes:: crash::

lint: needs
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --quiet --all-targets -- -D warnings

example: needs
	$(CARGO) run --locked --quiet --example embedded

# Each of them says machine, commit and seed first: without them its figures say nothing.
bench: needs
	$(CARGO) bench --locked --bench '*'
	@scripts/bench_table.sh '$(TARGET)/criterion'

build-release: needs
	@$(CARGO) build --locked --quiet --release --bin procura

# Nothing else may reach standard output: scripts take the path from it.
bin-release:
	@$(MAKE) --no-print-directory -s build-release 1>&2
	@printf '%s\n' '$(RELEASE)'

# One JSON object a world, then one table and one picture of all. Fails where any answer was wrong, after all have run.
SCALE ?= small
SECONDS ?= 5
MIX ?= check=90,bulk=4,filter=2,list=3,write=1
WORLDS ?= deep groups github drive saas delegated boolean roles cyclic large

bench-grpc: build-release
	@wrong=0; figures='$(TARGET)/bench.jsonl'; : >"$$figures"; \
	for world in $(WORLDS); do \
	  echo "$$world" >&2; \
	  '$(RELEASE)' --json bench run "$$world" --scale '$(SCALE)' --seconds '$(SECONDS)' --mix '$(MIX)' >>"$$figures" || wrong=1; \
	done; \
	'$(RELEASE)' bench table "$$figures" --plot '$(TARGET)/bench.svg'; \
	exit $$wrong
