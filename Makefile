# The two commands are `make demo` and `make test`; each does all of its own set-up.

# TensorFlow 2.15 ends at Python 3.11, where ackpt begins.
PYTHON ?= $(shell for python in python3.11 python3 python; do \
	$$python -c 'import ensurepip, sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null \
	&& echo $$python && break; done)
URL ?= file://$(CURDIR)/demo-run/bucket

VENV := .venv
LATEST := .venv-latest
STAMP := $(VENV)/.ackpt-installed
STAMP_LATEST := $(LATEST)/.ackpt-installed
# Where the two TensorFlows can differ; everything else would be the same code on the same libraries again.
# make test-latest MEETS_TENSORFLOW=tests plays all of them.
MEETS_TENSORFLOW := tests/snapshot tests/hook tests/estimator tests/engine tests/checkpoint tests/cli \
  tests/bench/test_stall.py tests/bench/test_torn.py tests/bench/test_idle.py \
  tests/test_demo.py tests/test_docs.py tests/test_import.py
STAMP_PEERS := $(VENV)/.ackpt-peers
AZURITE := tests/servers/azurite/package-lock.json

.DELETE_ON_ERROR:
.PHONY: help install install-latest peers lock reference laws test test-latest check demo demo-gs kill bench clean

help:  ## Show the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

install: $(STAMP)  ## Make .venv: TensorFlow 2.15.1 and everything for development

install-latest: $(STAMP_LATEST)  ## Make .venv-latest: the newest TensorFlow that is known to work

# $(call make_venv,folder,constraints,dependency groups)
define make_venv
	@test -x $(1)/bin/python || test -n '$(PYTHON)' || { echo >&2 \
	  'no Python 3.11 with venv was found: install python3.11 and python3.11-venv, or say make PYTHON=…'; exit 1; }
	test -x $(1)/bin/python || $(PYTHON) -m venv $(1)
	$(1)/bin/python -m pip install --quiet --constraint $(2) pip
	$(1)/bin/python -m pip install --quiet --constraint $(2) --build-constraint $(2) \
	  $(foreach group,$(3),--group $(group)) --editable '.[all,testing]'
	$(1)/bin/python -m pip check
	$(1)/bin/python -m tests.servers.azurite
	@touch $(1)/.ackpt-installed
endef

$(STAMP): pyproject.toml constraints/tensorflow-2.15.txt $(AZURITE)
	$(call make_venv,$(VENV),constraints/tensorflow-2.15.txt,tensorflow dev)

$(STAMP_LATEST): pyproject.toml constraints/tensorflow-latest.txt $(AZURITE)
	$(call make_venv,$(LATEST),constraints/tensorflow-latest.txt,tensorflow test)

lock:  ## Write constraints/ anew, from the newest releases that go together
	$(PYTHON) constraints/lock.py

reference: install  ## Write the reference pages that are made from the code
	$(VENV)/bin/python -m docs.generate

laws: install  ## Play the laws on every backend and driver, and write the page that says who keeps them
	$(VENV)/bin/python -m pytest -q -p tests.record_laws --laws docs/reference/laws.json tests/backends
	$(VENV)/bin/python -m docs.generate

test: install  ## Pass the tests on TensorFlow 2.15.1
	$(VENV)/bin/python -m pytest

test-latest: install-latest  ## Pass the tests that meet TensorFlow on the newest one
	$(LATEST)/bin/python -m pytest $(MEETS_TENSORFLOW)

check: install  ## Lint, format, types, and which room may import which
	$(VENV)/bin/ruff check
	$(VENV)/bin/ruff format --check
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports --no-logo --no-cache

demo: install  ## Train, be killed in the middle of a save, resume, evaluate; URL=… for another target
	$(VENV)/bin/python -m demo --url '$(URL)'

demo-gs: install  ## The same, against a local Google Cloud Storage server
	$(VENV)/bin/python -m demo --gs

kill: install  ## Kill the demo's training at 20 random moments, and a saver to gs:// at 100
	$(VENV)/bin/python -m demo.kill_many
	$(VENV)/bin/python -m tests.crash.kill --times 100

peers: $(STAMP_PEERS)

$(STAMP_PEERS): $(STAMP) bench/peers/tensorflow-gs.txt
	$(VENV)/bin/python -m pip install --quiet --constraint constraints/tensorflow-2.15.txt --group bench
	rm -rf $(VENV)/peers
	$(VENV)/bin/python -m pip install --quiet --no-deps --target $(VENV)/peers/tensorflow-gs \
	  --requirement bench/peers/tensorflow-gs.txt
	@touch $@

bench: install peers  ## Measure against the peers
	$(VENV)/bin/python bench/upload.py --rounds 1 --loads big small
	$(VENV)/bin/python bench/restore.py --rounds 1 --loads big
	$(VENV)/bin/python bench/torn.py --saves 20 --peer-saves 8
	$(VENV)/bin/python bench/stall.py --rounds 1
	$(VENV)/bin/python bench/idle.py
	$(VENV)/bin/python bench/interference.py --rounds 1
	$(VENV)/bin/python bench/durable.py --rounds 1
	$(VENV)/bin/python bench/latency.py --rounds 1 --mib 512
	$(VENV)/bin/python bench/delta.py --rounds 1
	$(VENV)/bin/python bench/scale.py
	$(VENV)/bin/python bench/health.py --memory-saves 10000 --server-saves 300

clean:  ## Remove what the targets made
	rm -rf $(VENV) $(LATEST) tests/servers/azurite/node_modules demo-run build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
