# Each step can be typed by hand: the README shows how.
PYTHON ?= python3
BIN := .venv/bin
# Without bytecode each process, and a run starts a dozen, would compile torch, Ray and Prefect anew.
unexport PYTHONDONTWRITEBYTECODE
UV := $(BIN)/uv pip install --quiet --constraint constraints.txt
# An index, or a folder of one, that torch and torchvision alone are taken from: builds without CUDA, or a mirror.
TORCH_INDEX ?=
TORCH := $(if $(TORCH_INDEX),$(UV) --no-deps --index '$(TORCH_INDEX)' torch torchvision)
INSTALL := $(UV) --editable
TOGETHER := --numprocesses 2 --dist loadfile --no-loadscope-reorder

.PHONY: run test check suite inner-loop test-faults test-containers fuzz bench deployments docs audit lint style types constraints clean

run: .venv/.installed
	$(BIN)/advfeat run

# The type checker works beside the tests.
test: style
	$(MAKE) --jobs=2 types suite

# What an edit needs: no servers, no whole runs, no browser and no long computation.
check: style
	$(MAKE) --jobs=2 types inner-loop

suite: .venv/.installed-dev
	$(BIN)/pytest $(TOGETHER)

inner-loop: .venv/.installed-dev
	$(BIN)/pytest $(TOGETHER) -m 'not (faults or containers or servers or slow)'

test-faults: .venv/.installed-dev
	$(BIN)/pytest -m faults

# DOCKER names another program, BUILD_OPTIONS what `docker build` needs here, such as --network host.
test-containers: .venv/.installed-dev
	$(BIN)/pytest -m containers --timeout 3600 -s

fuzz: .venv/.installed-dev
	$(BIN)/pytest tests/fuzz --hypothesis-profile fuzz --numprocesses 2 --dist load

bench: .venv/.installed-bench
	$(BIN)/python -m benchmarks $(BENCH)

deployments: .venv/.installed
	$(BIN)/python -m deployments

docs: .venv/.installed-docs
	$(BIN)/python -m website

audit: .venv/.installed-audit
	$(BIN)/python -m audit

lint: style types

style: .venv/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/.installed-dev
	$(BIN)/mypy

.venv/bin/uv:
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --constraint constraints.txt uv

.venv/.installed: .venv/bin/uv pyproject.toml constraints.txt
	$(TORCH)
	$(INSTALL) .
	touch $@

.venv/.installed-dev: .venv/bin/uv pyproject.toml constraints.txt
	$(TORCH)
	$(INSTALL) '.[dev]'
	touch $@

.venv/.installed-docs: .venv/bin/uv pyproject.toml constraints.txt
	$(TORCH)
	$(INSTALL) '.[docs]'
	touch $@

.venv/.installed-bench: .venv/bin/uv pyproject.toml constraints.txt
	$(TORCH)
	$(INSTALL) '.[bench]'
	touch $@

.venv/.installed-audit: .venv/bin/uv pyproject.toml constraints.txt
	$(TORCH)
	$(INSTALL) '.[audit]'
	touch $@

# Newest versions that fit pyproject.toml; torch and torchvision stay where they are known to agree.
constraints: .venv/bin/uv
	grep -E '^torch(vision)?==' constraints.txt > .venv/torch.txt
	$(BIN)/uv pip compile --quiet --upgrade --universal --no-annotate --no-header --extra audit \
	    --constraint .venv/torch.txt --output-file constraints.txt pyproject.toml

clean:
	rm -rf .venv .advfeat site
