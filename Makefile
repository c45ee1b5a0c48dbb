# The two commands are `make demo` and `make test`; each does all of its own set-up.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
URL ?= file://$(CURDIR)/demo-run/bucket

VENV := .venv
LATEST := .venv-latest
STAMP := $(VENV)/.ackpt-installed
STAMP_LATEST := $(LATEST)/.ackpt-installed
INPUTS := pyproject.toml constraints/tensorflow-2.15.txt constraints/tensorflow-latest.txt

.PHONY: help install install-latest test test-latest check demo demo-gs bench clean

help:  ## Show the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

install: $(STAMP)  ## Make .venv: TensorFlow 2.15.1 and everything for development

install-latest: $(STAMP_LATEST)  ## Make .venv-latest: the newest TensorFlow

$(STAMP): $(INPUTS)
	test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --upgrade pip
	$(VENV)/bin/python -m pip install --quiet -c constraints/tensorflow-2.15.txt tensorflow-cpu -e '.[dev]'
	touch $@

$(STAMP_LATEST): $(INPUTS)
	test -x $(LATEST)/bin/python || $(PYTHON) -m venv $(LATEST)
	$(LATEST)/bin/python -m pip install --quiet --upgrade pip
	$(LATEST)/bin/python -m pip install --quiet -c constraints/tensorflow-latest.txt tensorflow-cpu -e '.[dev]'
	touch $@

test: install  ## Set everything up and pass the tests, on TensorFlow 2.15.1
	$(VENV)/bin/python -m pytest

test-latest: install-latest  ## The same on the newest TensorFlow
	$(LATEST)/bin/python -m pytest

check: install  ## Lint, format, types, and which room may import which
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports

demo: install  ## Train, checkpoint, be killed, resume; URL=… for another target
	$(VENV)/bin/python -m demo.run --url '$(URL)'

demo-gs: install  ## The same, against a local Google Cloud Storage server
	$(VENV)/bin/python -m demo.run --gs

bench: install  ## Measure against the peers
	$(VENV)/bin/python bench/torn.py
	$(VENV)/bin/python bench/stall.py

clean:  ## Remove what the targets made
	rm -rf $(VENV) $(LATEST) demo-run build dist .mypy_cache .ruff_cache .pytest_cache
