# Every target needs Python 3.11 and make, nothing else: the rest goes into
# .venv/, once.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

# The tests run in two processes: one thread each, so that they do not wait
# for each other.
PYTEST := OMP_NUM_THREADS=1 TF_NUM_INTRAOP_THREADS=1 TF_NUM_INTEROP_THREADS=1 \
	TF_CPP_MIN_LOG_LEVEL=3 $(BIN)/python -m pytest -q -n 2 --dist worksteal
# What every backend has to pass. The others run once: they start processes of
# their own, or are about what backends have no part in, as the families of
# networks, of which every backend runs small ones.
FAMILIES := $(patsubst %,tests/applications/test_%.py,\
	attention_cnn cifar_resnet complexity densenet imagenet_resnet)
ONCE := aw_keras $(FAMILIES) tests/benchmarks tests/cli tests/detection \
	tests/docs tests/exporting tests/explain/test_figures.py tests/zoo \
	tests/test_files.py tests/test_notebooks.py tests/test_package.py \
	tests/test_command.py tests/test_suggestions.py \
	$(patsubst %,tests/weights/test_%.py,\
	download hub published pytorch released)
CORE := tests $(ONCE:%=--ignore=%)
# Compiling is most of what tests do under JAX: what is made of layers alone runs
# under the others, what one process has compiled the other one need not, and
# what runs once need not be fast.
JAX_CORE := $(CORE) --ignore=tests/explain --ignore=tests/hostile \
	--ignore-glob='tests/test_convert*'

.DEFAULT_GOAL := help
.PHONY: help venv quickstart train test test-tensorflow test-jax test-torch \
	test-once test-slow test-networks docs lint format benchmark clean

help: ## List the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 16

venv: $(STAMP) ## Make .venv with everything installed (PYTHON=python3.11)

$(STAMP): setup.cfg pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -e \
		'.[tensorflow,jax,onnx,litert,safetensors,hub,cli,docs,notebooks,zoo,tfds,test]'
	touch $@

quickstart: venv ## Train, export and serve AW-ResNet-20 on digits
	@KERAS_BACKEND=tensorflow TF_CPP_MIN_LOG_LEVEL=3 \
		$(BIN)/python -m zoo.quickstart

RECIPE ?= zoo/recipes/digits.yaml
SET ?= model=AWResNet20
train: venv ## Train RECIPE, with the changes in SET (see zoo/recipes/)
	$(BIN)/python -m zoo.train $(RECIPE) --set $(SET)

test: lint test-tensorflow test-jax test-torch test-once ## Run every test

test-jax: export JAX_DISABLE_MOST_OPTIMIZATIONS := 1
test-jax: export JAX_COMPILATION_CACHE_DIR := $(CURDIR)/.pytest_cache/jax
test-jax: export JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS := 0

test-jax: venv
	KERAS_BACKEND=jax $(PYTEST) $(JAX_CORE)

test-tensorflow: venv
	KERAS_BACKEND=tensorflow $(PYTEST) $(CORE)

test-torch: venv
	@if $(BIN)/python -c 'import torch' 2>/dev/null; then \
		echo "KERAS_BACKEND=torch pytest $(CORE)"; \
		KERAS_BACKEND=torch $(PYTEST) $(CORE) && \
		KERAS_BACKEND=torch $(PYTEST) tests/zoo/test_pipeline.py \
			tests/zoo/test_fine_tuning.py; \
	else \
		echo "Skipped the tests under PyTorch, which is not installed:" \
			"$(BIN)/pip install torch==2.13.0 timm"; \
	fi

# Exports from another backend than TensorFlow go through a second process.
test-once: venv
	KERAS_BACKEND=tensorflow $(PYTEST) $(ONCE)
	KERAS_BACKEND=jax $(PYTEST) tests/exporting/test_elsewhere.py

test-slow: venv ## Test what takes minutes: notebooks and detectors
	KERAS_BACKEND=tensorflow $(PYTEST) -m slow --dist loadfile

# Channels-first convolutions, too, run on the CPU under PyTorch.
test-networks: venv ## Test every network in full size (an hour; torch)
	AW_KERAS_TEST_NETWORKS=all KERAS_BACKEND=torch $(PYTEST) \
		-o tmp_path_retention_policy=none tests/applications/test_networks.py

docs: venv ## Build the site of the documentation into build/site
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build

lint: venv ## Check style and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: venv ## Mend style and format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

benchmark: venv ## Measure AW-convolution against plain convolution
	$(BIN)/python -m benchmarks.awconv
	$(BIN)/python -m benchmarks.networks

clean: ## Remove everything that can be made again, but not runs/
	rm -rf $(VENV) build dist *.egg-info .hypothesis .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
