# Everything runs in .venv, which the first target that needs it makes. PYTHON picks the interpreter
# it is made with (3.11 to 3.13); VENV another place for it.
PYTHON ?= python3
VENV ?= .venv
export SWEEP ?= multirun
RUN := $(VENV)/bin/python
READY := $(VENV)/.ready
DEV := $(VENV)/.ready-dev

.DEFAULT_GOAL := help
.PHONY: help setup train sweep losses sync docs site bench test test-slow lint

help: ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

setup: $(READY) ## make .venv with what training needs, pinned (done once, by the other targets too)

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --disable-pip-version-check -c constraints.txt -e '.[sweeper]'
	touch $@

$(DEV): $(READY) # what tests, benchmarks and the optional parts need besides
	$(RUN) -m pip install --disable-pip-version-check -c constraints.txt -e '.[sweeper,dev]'
	touch $@

train: $(READY) ## train ArcFace on handwritten digits: the main job, no network needed
	$(RUN) -m src.train loss=arcface

sweep: $(READY) ## a small margin sweep on the same digits, compared, in a minute
	$(RUN) -m src.train -m hydra.sweep.dir=multirun/margins seed=0,1,2 'hydra.sweeper.grids=["loss=arcface margin.value=0.1,0.3,0.5","loss=cosface margin.value=0.1,0.2,0.35","loss=sphereface margin.value=1.2,1.35,1.5"]'

losses: $(READY) ## every loss on the digits, three seeds: the last column of docs/losses.md, in minutes
	$(RUN) -m src.train -m experiment=few_classes 'loss=glob(*,exclude=[_*,module])' seed=0,1,2 logger=csv

sync: $(READY) ## upload what W&B lacks: make sync SWEEP=multirun/margins; without, of all sweeps
	$(RUN) -m src.sync "$$SWEEP"

docs: $(DEV) ## write docs/keys.md and docs/api.md, the references of all keys and all heads
	$(RUN) -m src.config.reference > docs/keys.md
	$(RUN) -m docs.api > docs/api.md

site: $(READY) ## the docs as a site, in docs/_site
	$(RUN) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[sweeper,site]'
	$(RUN) -m sphinx -W --keep-going -b html docs docs/_site

bench: $(DEV) ## speed claims, both sides in one process, as ratios
	$(RUN) -m benchmarks.head
	$(RUN) -m benchmarks.data
	$(RUN) -m benchmarks.retrieval
	$(RUN) -m benchmarks.sweep
	$(RUN) -m benchmarks.threads
	$(RUN) -m benchmarks.start
	$(RUN) -m benchmarks.verdict
	$(RUN) -m benchmarks.step small_cnn
	$(RUN) -m benchmarks.step convnet 64
	[ -z "$$DATA_ROOT" ] || $(RUN) -m benchmarks.script small_cnn
	[ -z "$$DATA_ROOT" ] || $(RUN) -m benchmarks.script convnet 1500
	[ -z "$$DATA_ROOT" ] || $(RUN) -m benchmarks.accuracy

test: $(DEV) ## the tests, in minutes; set DATA_ROOT for those on Fashion-MNIST
	$(RUN) -m pytest -n 2 --dist worksteal

test-slow: $(DEV) ## the tests that take longer
	$(RUN) -m pytest -m slow

lint: $(DEV) ## style and formatting
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
