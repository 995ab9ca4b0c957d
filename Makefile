# What can be made here: `make help`.

PREFIX ?= /usr/local
DESTDIR ?=
CARGO ?= cargo
CARGO_FLAGS ?= --locked
# Tools and images that tests need, outside the repository: see fstests/prepare.
LAYERFS_TEST_CACHE ?= $(shell [ "$$(id -u)" = 0 ] || [ -d /var/cache/layerfs ] && echo /var/cache/layerfs || echo $$HOME/.cache/layerfs)
export LAYERFS_TEST_CACHE
export PATH := $(PATH):$(LAYERFS_TEST_CACHE)/tools/bin
PROFILE = $(if $(CI),ci,default)
TARGET = $(or $(CARGO_TARGET_DIR),target)
SKIPPED = $(abspath $(TARGET))/skipped-tests

.PHONY: all help prepare lint test test-units demo bench bench-quick install clean

all: ## the program, optimised: target/release/layerfs
	$(CARGO) build --release $(CARGO_FLAGS)

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 16

prepare: ## what tests need: packages, a plain user, real images (as root installs, otherwise names them)
	fstests/prepare

lint: ## formatting and clippy, warnings are errors
	$(CARGO) fmt --check
	$(CARGO) clippy --all-targets $(CARGO_FLAGS) -- -D warnings

test: prepare lint ## everything, mounted tests among them
	@rm -f $(SKIPPED)
	@mkdir -p $(dir $(SKIPPED))
	LAYERFS_SKIPPED_FILE=$(SKIPPED) $(CARGO) nextest run --profile $(PROFILE) $(CARGO_FLAGS); code=$$?; \
	if [ -s $(SKIPPED) ]; then \
	    echo "$$(wc -l <$(SKIPPED)) tests could not run here and count as skipped, whatever the list above says:"; cat $(SKIPPED); \
	fi; exit $$code
	$(CARGO) test --doc --quiet $(CARGO_FLAGS)

test-units: ## only the tests that need no mount, server or other program
	$(CARGO) nextest run $(CARGO_FLAGS) --lib --bins

demo: all ## makes a real image, loads it, mounts it, reads it, unmounts it
	fstests/demo $(TARGET)/release/layerfs

bench: prepare ## every row against its peers, about 25 minutes, as root; JSON, tables and a plot in target/bench/
	$(CARGO) bench $(CARGO_FLAGS) --bench bench -- --json $(abspath $(TARGET))/bench/report.json

bench-quick: prepare ## the same in about three minutes: wider spread, no slow peers, no commits and builds
	$(CARGO) bench $(CARGO_FLAGS) --bench bench -- --quick --json $(abspath $(TARGET))/bench/quick.json

install: all ## to $(DESTDIR)$(PREFIX): the program, its links, manual pages, completions
	install -s -Dm755 $(TARGET)/release/layerfs $(DESTDIR)$(PREFIX)/bin/layerfs
	install -d $(DESTDIR)$(PREFIX)/sbin
	ln -sf ../bin/layerfs $(DESTDIR)$(PREFIX)/sbin/mount.layerfs
	ln -sf ../bin/layerfs $(DESTDIR)$(PREFIX)/sbin/mount.fuse.layerfs
	$(TARGET)/release/layerfs man $(DESTDIR)$(PREFIX)/share/man/man1
	install -d $(DESTDIR)$(PREFIX)/share/bash-completion/completions $(DESTDIR)$(PREFIX)/share/zsh/site-functions \
	    $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d
	$(TARGET)/release/layerfs completions bash >$(DESTDIR)$(PREFIX)/share/bash-completion/completions/layerfs
	$(TARGET)/release/layerfs completions zsh >$(DESTDIR)$(PREFIX)/share/zsh/site-functions/_layerfs
	$(TARGET)/release/layerfs completions fish >$(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/layerfs.fish

clean: ## removes what was built here; the cache of tools and images stays
	$(CARGO) clean
