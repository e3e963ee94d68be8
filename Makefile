# The folder of the environment; nothing is installed outside it.
VENV ?= .venv
# The first Python that is 3.10 or newer; 3.11 is the tested version.
PYTHON ?= $(shell for python in python3.11 python3 python3.12 python3.13 python3.10 python; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null && echo $$python && break; done)
# ARGS is passed to the program: make test ARGS="tests/test_compat.py -v"
ARGS ?=
# Number of test workers, of one thread each: one more than two cores, as some tests wait for processes.
JOBS ?= 3

# The environment of the onedl forks.
FORKS_VENV ?= .venv-forks
# The environment with a CUDA build of torch.
CUDA_VENV ?= .venv-cuda
# The environment of the oldest versions that setup.cfg allows, and the oldest Python.
OLDEST_VENV ?= .venv-oldest
OLDEST_PYTHON ?= python3.10
# The environment of a wheel, which is made anew every time.
WHEEL_VENV ?= .venv-wheel

.PHONY: help python setup demo docs notebook lint format linters \
	test test-web test-mutants test-wheel test-forks test-oldest test-cuda gpu-report clean

help:
	@echo 'make demo           write the shapes data, score the shipped model, train a little, segment pictures'
	@echo 'make test           run the test suite; a part of it: ARGS="tests/test_compat.py"; workers: JOBS=3'
	@echo 'make lint           check style, imports and types'
	@echo 'make format         fix style and imports'
	@echo 'make docs           build the pages of docs/ into work_dirs/site'
	@echo 'make notebook       run demo/dit_sam_tutorial.ipynb and store its outputs in it'
	@echo 'make test-web       test the web page in headless Chromium (Debian: chromium, chromium-driver)'
	@echo 'make test-wheel     build a wheel, and use it in a fresh environment outside of the checkout'
	@echo 'make test-cuda      run every config on fake CUDA tensors, and GPU tests if there is a GPU (5.5 GB)'
	@echo 'make gpu-report     measure a GPU for eight minutes and write work_dirs/gpu.md'
	@echo 'make test-forks     run the test suite on the onedl forks of OpenMMLab'
	@echo 'make test-oldest    run the test suite on the oldest versions that setup.cfg allows, and Python 3.10'
	@echo 'make test-mutants   mutation-test a package: PACKAGE=utils'
	@echo 'make setup          make the environment in $(VENV); elsewhere: VENV=...; another Python: PYTHON=...'
	@echo 'make clean          remove caches; environment, data and results stay'

python:
	@test -n '$(PYTHON)' || \
		{ echo 'setup: no Python 3.10 or newer was found: install one, or name it with PYTHON=...' >&2; exit 1; }

setup: python
	@$(PYTHON) tools/setup_environment.py --venv '$(VENV)'

demo: setup
	'$(VENV)/bin/python' tools/demo.py $(ARGS)

docs: setup
	'$(VENV)/bin/mkdocs' build --strict
	@echo 'work_dirs/site/index.html'

# Without times, so that a second run changes nothing.
notebook: setup
	'$(VENV)/bin/python' -c 'import nbclient, nbformat; \
		book = nbformat.read("demo/dit_sam_tutorial.ipynb", 4); \
		nbclient.execute(book, cwd="demo", record_timing=False); \
		nbformat.write(book, "demo/dit_sam_tutorial.ipynb")'

lint: linters
	'$(VENV)/bin/ruff' format --check
	'$(VENV)/bin/ruff' check
	'$(VENV)/bin/mypy'

format: linters
	'$(VENV)/bin/ruff' check --fix
	'$(VENV)/bin/ruff' format

linters: setup
	@'$(VENV)/bin/python' -m pip install --quiet --disable-pip-version-check \
		--constraint '$(VENV)/dit_sam_constraints.txt' --requirement requirements/lint.txt

test: setup
	OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} '$(VENV)/bin/python' -m pytest -n $(JOBS) --dist worksteal $(ARGS)

test-web: setup
	'$(VENV)/bin/python' -m pip install --quiet --disable-pip-version-check \
		--constraint '$(VENV)/dit_sam_constraints.txt' --requirement requirements/web_test.txt
	OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} '$(VENV)/bin/python' -m pytest tests/test_web $(ARGS)

# PACKAGE is evaluation, datasets, engine, mmengine_extras, models or utils: make test-mutants PACKAGE=utils ARGS="--sample 150"
test-mutants: setup
	'$(VENV)/bin/python' -m pip install --quiet --disable-pip-version-check \
		--constraint '$(VENV)/dit_sam_constraints.txt' --requirement requirements/mutation.txt
	'$(VENV)/bin/python' tests/mutation.py $(PACKAGE) $(ARGS)

test-wheel: python
	@$(PYTHON) tools/setup_environment.py --wheel --venv '$(WHEEL_VENV)'
	'$(WHEEL_VENV)/bin/python' tests/wheel.py

test-forks: python
	@$(PYTHON) tools/setup_environment.py --forks --venv '$(FORKS_VENV)'
	OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} '$(FORKS_VENV)/bin/python' -m pytest -n $(JOBS) --dist worksteal $(ARGS)

test-oldest:
	@$(OLDEST_PYTHON) tools/setup_environment.py --oldest --venv '$(OLDEST_VENV)'
	OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} '$(OLDEST_VENV)/bin/python' -m pytest -n $(JOBS) --dist worksteal $(ARGS)

# Fake CUDA tensors need no GPU; tests that need one are skipped if there is none.
test-cuda: python
	@$(PYTHON) tools/setup_environment.py --cuda --venv '$(CUDA_VENV)'
	OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} '$(CUDA_VENV)/bin/python' -m pytest -n $(JOBS) --dist worksteal -m fake_cuda tests/test_cuda
	DIT_SAM_TEST_GPU=1 '$(CUDA_VENV)/bin/python' -m pytest -m cuda -rs tests/test_cuda $(ARGS)

gpu-report: python
	@$(PYTHON) tools/setup_environment.py --cuda --venv '$(CUDA_VENV)'
	@mkdir -p work_dirs
	'$(CUDA_VENV)/bin/python' benchmarks/gpu_report.py --out work_dirs/gpu.md $(ARGS)

clean:
	rm -rf build dist .pytest_cache .hypothesis .mypy_cache .ruff_cache projects/*.egg-info
	find projects configs tools benchmarks reproduction tests -name __pycache__ -type d -prune -exec rm -rf {} +
