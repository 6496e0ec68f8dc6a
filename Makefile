# `make help` lists the targets. They need GNU Make, git and Python 3.11 or newer; the rest goes into .venv.

PYTHON3 ?= python3
PYTHON := .venv/bin/python

# Every installation below, also of what builds a package and of what a test installs, takes the tested versions.
export PIP_CONSTRAINT := $(CURDIR)/constraints.txt
export PIP_BUILD_CONSTRAINT := $(PIP_CONSTRAINT)
export PIP_DISABLE_PIP_VERSION_CHECK := 1

# Tests start Python thousands of times; what is compiled once need not be compiled again.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

.PHONY: help
help: ## List the targets
	@sed -n 's/^\([a-z]*\):.*## /make \1\t/p' $(MAKEFILE_LIST)

.PHONY: demo
demo: .venv/tool ## Make an Ignite project, train it with two processes and test it, in demo/digits
	rm -rf demo/digits
	.venv/bin/mlscaffold new demo/digits --framework ignite --ddp --yes --no-git
	$(PYTHON) -m pip install --quiet --editable demo/digits
	cd demo/digits && OMP_NUM_THREADS=1 $(CURDIR)/.venv/bin/torchrun --nproc-per-node 2 -m digits.train
	cd demo/digits && $(CURDIR)/$(PYTHON) -m digits.evaluate > runs/0001/test.txt
	@cat demo/digits/runs/0001/test.txt
	@echo "pictures: demo/digits/runs/0001/curves.png demo/digits/runs/0001/confusion.png"
	@cd demo/digits/runs/0001 && test -s curves.png && test -s confusion.png
	@awk '$$1 == "test/accuracy" { good = $$2 > 0.95 } END { exit !good }' demo/digits/runs/0001/test.txt || \
		{ echo "make demo: the test accuracy is not above 0.95" >&2; exit 1; }

.PHONY: test
test: .venv/tests ## Run the tests, but for what is proven for the same content; make test FRESH=1 runs all
	$(PYTHON) -m pytest --numprocesses auto
	$(PYTHON) -m tests.matrix --sample 48 --seed 7

.PHONY: matrix
matrix: .venv/tests ## Prove every combination, and write docs/matrix.md; make test proves 48 of them
	$(PYTHON) -m tests.matrix --write $(ARGS)

.PHONY: lint
lint: .venv/tests ## Check style and types
	.venv/bin/ruff check src tests tools benchmarks templates
	.venv/bin/ruff format --check src tests tools benchmarks
	.venv/bin/mypy

.PHONY: soak
soak: .venv/tests ## Run the tests that repeat something with their full counts; make soak ARGS="-k signal" chooses
	MLSCAFFOLD_SOAK=1 $(PYTHON) -m pytest -m soak --timeout 0 $(ARGS)

.PHONY: bench
bench: .venv/tests ## Measure, and write the tables to docs/benchmarks; make bench ARGS="loops" chooses
	$(PYTHON) -m benchmarks $(ARGS)

.PHONY: docs
docs: .venv/tests ## Build the documentation site in docs/_build; a broken link is an error
	.venv/bin/sphinx-build --fail-on-warning --keep-going --quiet docs docs/_build

.PHONY: release
release: .venv/tool ## Add the committed template to src/mlscaffold/releases.bundle: make release VERSION=0.2.0
	$(PYTHON) tools/release.py "$(VERSION)"

.PHONY: clean
clean: ## Remove what the other targets leave, but for .venv
	rm -rf demo build dist docs/_build docs/reference .mypy_cache .proofs .pytest_cache .ruff_cache
	find src tests tools benchmarks templates -name __pycache__ -prune -exec rm -rf {} +

# torch goes first and alone: where pip is set up to find a build for this machine, such as one without CUDA, all
# that comes later finds it there and asks for no other.
.venv/torch: constraints.txt
	@$(PYTHON3) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "mlscaffold needs Python 3.11 or newer. Name one: make PYTHON3=python3.13" >&2; exit 1; }
	test -x $(PYTHON) || $(PYTHON3) -m venv .venv
	$(PYTHON) -m pip install --quiet "$$(grep '^torch==' constraints.txt)"
	@touch $@

.venv/tool: .venv/torch pyproject.toml
	$(PYTHON) -m pip install --quiet --editable .
	@touch $@

.venv/tests: .venv/tool
	$(PYTHON) -m pip install --quiet --requirement constraints.txt --editable '.[dev]'
	@touch $@
