# make figure   sets up what drawing needs and draws unit_disk.png
# make test     sets up what testing needs and runs every test, doctest and notebook but the slowest
# make test-all runs those too: long fuzzing, 5,000 unstable systems, pictures of 5,000,000 eigenvalues
# make lint     style, types, import contracts
# make metrics  figures of the source beside what is wanted of them; LIST=--list names the places
# All keep to the versions in constraints.txt, make .venv once, and do nothing twice.

PYTHON  ?= python3
VENV    := .venv
PY      := $(VENV)/bin/python
INSTALL := $(PY) -m pip install -qq --disable-pip-version-check --constraint constraints.txt --editable
export OMP_NUM_THREADS = 1
export OPENBLAS_NUM_THREADS = 1
export MKL_NUM_THREADS = 1

.PHONY: figure test test-all lint metrics benchmarks clean

figure: $(VENV)/.run
	$(PY) -m ssm_analysis figure

test: $(VENV)/.dev
	$(PY) -m pytest -q -n 2 --dist worksteal -m 'not slow'
	$(PY) -m pytest -q -n 2 --nbmake --nbmake-timeout=300 notebooks

test-all: test
	$(PY) -m pytest -q -n 2 --dist worksteal -m slow

lint: $(VENV)/.dev
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m pyright
	$(VENV)/bin/lint-imports

metrics: $(VENV)/.dev
	cd tests && ../$(PY) -m metrics $(LIST)

benchmarks: $(VENV)/.dev
	cd tests && ../$(PY) -m benchmarks

$(VENV)/.run: pyproject.toml constraints.txt | $(PY)
	$(INSTALL) '.' && touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(PY)
	$(INSTALL) '.[dev]'
	$(PY) -m pip install -qq --disable-pip-version-check --no-deps typeseg==0.2.7  # a trained Mamba; its other needs are not ours
	touch $@ $(VENV)/.run

$(PY):
	$(PYTHON) -m venv $(VENV)

clean:
	rm -rf $(VENV) unit_disk.png
