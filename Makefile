# Two commands for a newcomer, `make demo` and `make test`; `make help` lists the rest.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Tests of servers mostly wait, so there are more workers than cores.
JOBS ?= $(shell expr 3 + $$(nproc 2>/dev/null || echo 2))
# In CI a test that fails is tried once more, and listed: see .ci/matrix.py.
RERUNS = $(if $(CI),-p rerunfailures --reruns 1 -rR)
PYTEST = $(BIN)/python -m pytest -n $(JOBS) --dist loadgroup $(RERUNS)

# Hundreds of processes would compile the same modules again.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help demo demo-prometheus test compiled test-fast soak fuzz coverage lint docs style types types-here types-darwin types-win32 documents dist bench pictures clean

help: ## List the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

demo: $(VENV)/.demo ## Serve the examples with their live pages, send requests, compare what was measured
	@$(BIN)/python examples/demo.py

demo-prometheus: $(VENV)/.demo ## The same with a Prometheus: its rules, and six hours of made-up history
	@$(BIN)/python examples/demo.py --prometheus

test: $(VENV)/.test compiled ## Run the whole test suite, JOBS tests at a time
	@$(PYTEST) $(ARGS)

# The servers of tests write no .pyc files.
compiled: $(VENV)/.test
	@$(BIN)/python -m compileall -q $(COMPILED)

# These tests seldom wait, and each worker imports all of them: one worker more than there are cores.
test-fast: JOBS = $(shell expr 1 + $$(nproc 2>/dev/null || echo 2))
test-fast: $(VENV)/.test ## Run the tests of single units, without servers and other slow tests, in under a minute
	@$(PYTEST) -m "not slow" $(ARGS)

soak: $(VENV)/.test ## Kill, stop, reload and upgrade real servers at random for five minutes (SOAK_SECONDS)
	@SOAK_SECONDS=$${SOAK_SECONDS:-300} $(BIN)/python -m pytest $(RERUNS) -s tests/servers/test_chaos.py $(ARGS)

coverage: $(VENV)-coverage/.done ## Run the tests of single units and of servers that depend on versions, and print which lines and branches none of them runs
	@rm -rf build/coverage && mkdir -p build/coverage
	@$(VENV)-coverage/bin/python -m compileall -q $(COMPILED)
	@$(COVERED_PYTEST) -n $(JOBS) --dist loadgroup -m "(not servers or versions) and not unmeasured and not once" $(ARGS)
	@COVERAGE_PROCESS_START= $(COVERED_PYTEST) -m "unmeasured and not once" $(ARGS)
	@$(COVERAGE) combine --quiet && $(COVERAGE) report

# The same tests as with the oldest Python of the version matrix.
COVERED_PYTEST = $(VENV)-coverage/bin/python -m pytest $(shell $(PYTHON) .ci/matrix.py --ignored) $(RERUNS)
COVERAGE = COVERAGE_PROCESS_START= $(VENV)-coverage/bin/python -m coverage

lint: style types documents ## Check style, types and README (faster with -j2)

style: $(VENV)/.lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: types-here types-darwin types-win32

types-here: $(VENV)/.lint
	$(BIN)/mypy

# Each platform has its own cache: in one cache, each run would discard the results of the run before.
types-darwin: $(VENV)/.lint
	$(BIN)/mypy --platform darwin --cache-dir .mypy_cache/darwin $(PACKAGES)

types-win32: $(VENV)/.lint
	$(BIN)/mypy --platform win32 --cache-dir .mypy_cache/win32 --follow-imports=silent $(shell git ls-files $(PACKAGES) | grep -E '\.py$$' | grep -vE '$(POSIX_ONLY)')

documents: $(VENV)/.lint
	@for file in README.rst SECURITY.rst; do \
		$(BIN)/python -m docutils --halt=warning --report=warning --writer=null $$file || exit 1; \
	done

docs: $(VENV)/.docs ## Build the documentation site in build/docs; a warning is an error
	@$(BIN)/python -m sphinx --nitpicky --fail-on-warning --keep-going --quiet -b html docs build/docs
	@echo "build/docs/index.html"

pictures: $(VENV)/.test ## Make the pictures of the live page in the documentation, with Debian's chromium-headless-shell
	@$(BIN)/python -m tests.live_page.pictures

dist: $(VENV)/.dist ## Build the source distribution and the wheel in dist, and check them
	@rm -rf dist
	@$(BIN)/python -m build --quiet --outdir dist
	@$(BIN)/python -m twine check --strict dist/*

fuzz: $(VENV)/.test ## Try the parsers with damaged input, FUZZ_SECONDS (30) for each fuzzer
	@FUZZ_SECONDS=$${FUZZ_SECONDS:-30} $(BIN)/python -m pytest tests/fuzz $(ARGS)

bench: $(VENV)-bench/.done ## Measure what requests and scrapes cost, beside others
	@$(VENV)-bench/bin/python -m benchmarks $(ARGS)

PACKAGES := web_prom flask_prom django_prom
COMPILED := $(PACKAGES) examples tests
# Shared values, the exporter process and netlink sockets: other platforms import these modules and do not use them.
POSIX_ONLY := ^web_prom/(multiprocess/|gunicorn|exporter/|http_server/listener|runtime/sock_diag)

clean: ## Remove the virtual environment and what tools left
	rm -rf $(VENV) $(VENV)-bench $(VENV)-coverage build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis

# One environment; each stamp adds what its commands need.
$(VENV)/.venv:
	@echo "Making the virtual environment $(VENV) ..."
	@$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.demo $(VENV)/.test $(VENV)/.lint $(VENV)/.docs $(VENV)/.dist: $(VENV)/.%: $(VENV)/.venv setup.cfg
	@echo "Installing web-prom and what '$*' needs ..."
	@$(INSTALL_HERE) --editable '.[$(EXTRAS)]'
	@touch $@

# The folder becomes a line of sys.path. Otherwise each Python process would import a finder, which takes as long as
# all else at its start.
EDITABLE = --config-settings editable_mode=compat
INSTALL_HERE ?= $(BIN)/python -m pip install --quiet --disable-pip-version-check $(EDITABLE)
comma := ,
EXTRAS = $(if $(filter lint,$*),test$(comma))$*$(if $(filter test,$*),$(comma)quart)

# Apart, because other exporters hold Django and prometheus-client back.
$(VENV)-bench/.done: setup.cfg
	@echo "Making $(VENV)-bench, with what is compared ..."
	@$(PYTHON) -m venv $(VENV)-bench
	@$(VENV)-bench/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[demo,bench]'
	@touch $@

# Every process of this environment is measured while it runs the tests, whatever its environment variables are:
# site.py reads the *.pth files in the order of their names, and coverage's own (a1_) starts where a variable asks.
INSTALL = $(VENV)-coverage/bin/python -m pip install --quiet --disable-pip-version-check $(EDITABLE)
$(VENV)-coverage/.done: setup.cfg
	@echo "Making $(VENV)-coverage, in which coverage is measured ..."
	@$(PYTHON) -m venv $(VENV)-coverage
	@$(INSTALL) --editable '.[test,quart,coverage]'
	@echo 'import os; os.environ.setdefault("COVERAGE_PROCESS_START", "$(CURDIR)/pyproject.toml"); os.environ.setdefault("COVERAGE_FILE", "$(CURDIR)/build/coverage/data")' \
		> "$$($(VENV)-coverage/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/a0_measured.pth"
	@touch $@
