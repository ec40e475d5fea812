# make demo   handwritten digits, from pixels to a report page
# make test   everything that can be tested here
# make help   the rest

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
OUT ?= runs/demo
PYTEST = OMP_NUM_THREADS=1 RAY_USAGE_STATS_ENABLED=0 $(BIN)/python -m pytest
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	"$$p" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null \
	&& command -v "$$p" && break; done)

.PHONY: help demo test check unit gloo fleet ray nodes browser bench soak lock clean install

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(STAMP) ## 1,797 handwritten digits, from pixels to a report page, under runs/demo
	$(BIN)/rayscan demo --out $(OUT)

test: check ## every check and every test
	@# two folders at a time: those with a Ray wait for its processes to start half of the time
	$(MAKE) --no-print-directory --jobs=2 --output-sync=target --keep-going ray fleet nodes gloo browser unit

check: $(STAMP) ## format, lint, types, import rules, spelling
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/codespell

unit: PYTEST += --numprocesses=auto --maxprocesses=8 --dist=loadfile --max-worker-restart=2 -o faulthandler_timeout=600
unit gloo fleet ray nodes browser: $(STAMP) ## one folder of tests
	@# a folder without tests yet is not a failure; one whose tests are all skipped says why (-ra)
	if compgen -G 'tests/$@/**/test_*.py' >/dev/null || compgen -G 'tests/$@/test_*.py' >/dev/null; \
		then $(PYTEST) tests/$@; else echo 'tests/$@: none'; fi

bench: $(STAMP) ## every benchmark in its quick size, as JSON under runs/bench
	mkdir -p runs/bench
	@# long campaigns, and what benchmarks share, do not take both options
	for file in benchmarks/[a-z]*.py; do name=$$(basename "$$file" .py); \
		help=$$($(BIN)/python -m "benchmarks.$$name" --help 2>&1 || true); \
		case "$$help" in *--quick*--json*) ;; *) continue ;; esac; \
		OMP_NUM_THREADS=1 $(BIN)/python -m "benchmarks.$$name" --quick --json "runs/bench/$$name.json"; done

soak: $(STAMP) ## 240 seeded faults (SOAK_EACH=20 of each class; goes on where it was cut), then the long tests
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.faults --each $${SOAK_EACH:-20} --json runs/soak/faults.json
	$(PYTEST) -m soak -o faulthandler_timeout=0 tests

lock: $(STAMP) ## requirements.lock again from pyproject.toml; UPGRADE=--upgrade takes newer versions
	$(BIN)/uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 --generate-hashes \
		--no-annotate --no-header --no-emit-index-url $(UPGRADE) --output-file requirements.lock --quiet
	@# the supported systems stand in pyproject.toml; their marker on every line would only hide the pins
	sed -E -i.old -e "s/ ; \(python_full_version < '3.14' and platform_machine == 'arm64' and sys_platform == \
	'darwin'\) or \(python_full_version < '3.14' and sys_platform == 'linux'\)//" \
		-e "s/python_full_version < '3.14' and //g" requirements.lock
	rm requirements.lock.old

install: $(STAMP) ## the environment alone

$(STAMP): requirements.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo 'rayscan needs Python 3.11, 3.12 or 3.13: make PYTHON=/path/to/python'; exit 1; }
	test -x $(BIN)/python || "$(PYTHON)" -m venv $(VENV)
	@# uv takes half the time of pip but does not read pip's settings: where it finds no index, pip goes on
	awk '/^uv==/ { found = 1 } found { print } found && !/\\$$/ { exit }' requirements.lock > $(VENV)/uv.txt
	$(BIN)/python -m pip install --quiet --require-hashes -r $(VENV)/uv.txt
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-cache --compile-bytecode --require-hashes \
		-r requirements.lock || $(BIN)/python -m pip install --quiet --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation -e .
	touch $@

clean: ## the environment, caches and the demo's results
	rm -rf $(VENV) runs/demo runs/bench build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache \
		.import_linter_cache
	find rayscan tests testing benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
