# Skate's front door. `make build`, `make test` and `make demo` do all their own set-up on a
# fresh Debian 12 with Python 3.11, git and make (as root, or with sudo).
.PHONY: help build quick compat test test-core test-spark demo bench bench-compare bench-scale asan faults units tidy fuzz wheel clean \
        setup-build setup-test setup-spark setup-bench setup-clients
.DEFAULT_GOAL := help
PY := .venv/bin/python

help:
	@echo 'make build       set-up, then Skate installed into .venv (.venv/bin/skate, .venv/bin/python)'
	@echo 'make demo        set-up, then the four example programs, with a summary'
	@echo 'make test        set-up, then all tests: test-core and test-spark'
	@echo 'make test-core   C unit tests (also under ASan and UBSan), style, Python tests'
	@echo 'make test-spark  tests on a real Apache Spark (needs Java; set-up installs it)'
	@echo 'make compat      the compat tests on Skate and on real Ray, row by row (about 20 minutes)'
	@echo 'make bench       Skate beside Ray, alternating, with the floor of this machine'
	@echo 'make bench-compare REV=...  an old revision beside this one; fails when a row falls'
	@echo 'make bench-scale  scheduling from 10 to 10,000 simulated nodes, with a chart (1 minute)'
	@echo 'make quick       compile and copy what changed into .venv (about one second)'
	@echo 'make faults      real nodes in network namespaces: kills, cuts, bad networks (about 17 minutes)'
	@echo 'make asan        C unit tests and the compat tests under ASan and UBSan'
	@echo 'make tidy        the style check'
	@echo 'make fuzz SECONDS=60  each fuzz target so long, with clang (tests/fuzz)'
	@echo 'make wheel       a wheel in dist/'
	@echo 'make clean       remove build/ but for stamps and environments'

setup-build:
	@tools/setup.sh build
setup-test:
	@tools/setup.sh build test
setup-spark:
	@tools/setup.sh build test spark spark35 mlflow
setup-bench:
	@tools/setup.sh build test bench
setup-clients:
	@tools/setup.sh build test clients

build: setup-build
	@$(PY) tools/build.py install

quick:
	@$(PY) tools/build.py quick

units: setup-test
	@$(PY) tools/build.py units
	@$(PY) tools/build.py units asan
	@$(PY) tools/build.py units tsan

test: setup-spark build
	@$(PY) tools/run_tests.py core spark

test-core: setup-test build
	@$(PY) tools/run_tests.py core

test-spark: setup-spark build
	@$(PY) tools/run_tests.py spark

asan: setup-test
	@$(PY) tools/build.py units asan
	@$(PY) -m pytest tests/test_c_units.py tests/test_sanitized.py -k "asan or sanitized"

faults: setup-test build
	@$(PY) tests/faults/faults.py $(RUNS)

tidy:
	@$(PY) tools/tidy.py

SECONDS ?= 60
fuzz: setup-test build
	@$(PY) tests/fuzz/run_fuzz.py all $(SECONDS)

demo: setup-spark build
	@$(PY) tools/demo.py

bench: setup-bench build
	@$(PY) bench/run.py

# ROWS=a,b and PAIRS=n narrow it down.
bench-compare: setup-build
	@test -n "$(REV)" || { echo 'usage: make bench-compare REV=<commit, tag or branch>'; exit 2; }
	@$(PY) bench/compare.py "$(REV)" $(if $(ROWS),--rows "$(ROWS)") $(if $(PAIRS),--pairs "$(PAIRS)")

bench-scale: setup-build
	@$(PY) bench/scale.py

compat: setup-bench build
	@$(PY) tools/compat.py

wheel: setup-build
	@PATH="$(CURDIR)/.venv/bin:$$PATH" $(PY) -m pip wheel --quiet --no-build-isolation --no-deps -w dist .

clean:
	@rm -rf build/py build/asan build/tsan dist
