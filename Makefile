# `make run` and `make test` do all their own set-up; a second run of either starts in seconds.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
JARS := build/jars
PYTEST := $(BIN)/python -m pytest

.DEFAULT_GOAL := help
.PHONY: help run test bench loadtest check format lock clean jars servers

help: ## Show this help
	@sed -n 's/^\([a-z][a-z-]*\):.*## \(.*\)/make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 16

run: $(READY) ## Start the whole stack on this machine with a simulated crowd
	$(BIN)/nearby up --simulate

test: $(READY) $(JARS)/.ready servers ## Run every test, against real servers
	$(PYTEST) -n 3 --dist loadgroup -m "not serial"
	$(PYTEST) -m serial

loadtest: $(READY) ## Run a small load test against a stack of its own; ARGS: any options of it
	$(BIN)/python -m loadtest $(ARGS)

# Programs from Debian, which the tests run as child processes or compile with: program:its packages. Looked for by path:
# sbin is not on everybody's.
SERVERS := haproxy:haproxy nginx:nginx-light redis-server:redis-server prometheus:prometheus gcc:gcc,libc6-dev \
	node:nodejs npm:npm jq:jq curl:curl
servers:
	@PATH="$$PATH:/usr/sbin"; missing=; for server in $(SERVERS); do \
			command -v $${server%:*} >/dev/null || missing="$$missing $$(echo $${server#*:} | tr , ' ')"; done; \
		if [ -z "$$missing" ]; then exit 0; \
		elif [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
			apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends $$missing; \
		else \
			echo "Something is missing; install it: apt-get install$$missing"; exit 1; \
		fi

bench: $(READY) servers ## Measure beside reference servers, about an hour; ARGS: --help tells
	$(BIN)/python -m benchmarks $(ARGS)

check: $(READY) ## Run the static gates: format, lint, types, import contracts
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy .
	$(BIN)/lint-imports

format: $(READY) ## Format the code
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

jars: $(JARS)/.ready ## Fetch the servers on Java that the tests run

lock: $(READY) ## Choose versions of all dependencies anew and lock them with their hashes
	$(BIN)/pip install --quiet uv
	$(BIN)/uv pip compile --upgrade --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
		--quiet pyproject.toml --output-file requirements/runtime.txt
	$(BIN)/uv pip compile --upgrade --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
		--quiet pyproject.toml --group dev --output-file requirements/dev.txt

clean: ## Delete what was built and the data of the local stack
	rm -rf $(VENV) $(JARS) build/benchmarks .nearby .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis

$(READY): requirements/dev.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "nearby needs Python 3.11 or newer; name one: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || \
		{ echo "Python's venv module is missing; install it: apt-get install python3-venv"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

$(JARS)/.ready: tests/support/jvm/pom.xml | $(READY)
	@$(BIN)/python -m tests.support.jvm.java
	rm -rf $(JARS)
	mvn --quiet --batch-mode --no-transfer-progress -Dstyle.color=never --file $< dependency:copy-dependencies \
		-DoutputDirectory=$(abspath $(JARS))
	@touch $@
