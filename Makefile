# The book and its tests, from a fresh clone: `make book`, `make test`. `make` alone lists the rest.
# Needs GNU make >= 3.81 and Python >= 3.11; everything else goes into .venv.
#
#   make book ARGS="--only 02"       ARGS is handed to the program behind the target
#   make book PYTHON=/opt/py/bin/python3.12
#
# On Linux without a GPU, PyTorch's CPU index saves gigabytes:
#   PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu make book

SHELL := /bin/sh
VENV := .venv
PY := $(VENV)/bin/python
STAMP := $(VENV)/.installed
ARGS ?=
PYTHONS := $(or $(PYTHON),python3 python3.13 python3.12 python3.11)
TORCH := $(shell sed -n 's/^torch==//p' constraints.txt)
START := $(shell date +%s)
# Tests in a process for each core, up to four, which want 2 GB each; by modules, in their order.
# To look into a failure: make test ARGS="-n 0 -x --pdb tests/test_roc.py"
AT_ONCE := -n logical --maxprocesses 4 --max-worker-restart 2 --dist loadfile \
           --no-loadscope-reorder
TOOK = echo "make $@: $$(( $$(date +%s) - $(START) )) s"

export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help book test results verify probes robustness exercises lab lint clean retarget constraints
.PHONY: audit assets benchmarks

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

book: assets ## run every notebook and build the book into _build/html
	@$(PY) book/build.py $(ARGS)
	@$(TOOK)

test: assets ## run the whole test suite, which builds the book too (its page tests need Chromium)
	@$(PY) -m pytest --runslow $(AT_ONCE) $(ARGS)
	@$(TOOK)

results: assets ## run every notebook and make its numbers the published ones (results/)
	@$(PY) book/build.py --no-publish --keep-results $(ARGS)
	@$(PY) book/pictures.py
	@$(TOOK)

verify: $(STAMP) ## check every published number against the scores it was made from
	@$(PY) -m seglib verify $(ARGS)

probes: assets ## train the demo's own probes anew, and measure what that training is worth; takes long
	@$(PY) -c "from seglib import panel, scoring, zeroshot; panel.save(zeroshot.train(), scoring.OWN)"
	@$(PY) -c "from seglib import unseen; unseen.publish()"
	@$(TOOK)

robustness: assets ## measure every perturbation of chapter 07 anew; takes about an hour
	@$(PY) -c "from seglib import robustness; robustness.publish()"
	@$(TOOK)

benchmarks: assets ## measure anew what the page of costs quotes; an hour or two, on an idle machine
	@$(PY) -m benchmarks $(ARGS)
	@$(TOOK)

exercises: $(STAMP) ## derive exercises and sabotaged chapters from what is right
	@$(PY) book/exercising.py
	@$(PY) -m ruff format notebooks

lab: assets ## open the notebooks in JupyterLab
	@$(PY) -m jupyterlab --notebook-dir=. $(ARGS)

lint: $(STAMP) ## check the style of code and notebooks
	@$(PY) -m ruff check . && $(PY) -m ruff format --check .

clean: ## remove what was built here (the environment and the downloaded assets stay)
	rm -rf _build .pytest_cache .ruff_cache .hypothesis
	find book notebooks seglib tests -name __pycache__ -type d -prune -exec rm -rf {} +

retarget: $(STAMP) ## write the repository's address everywhere: make retarget REPO=owner/name
	@$(PY) book/retarget.py "$(REPO)"

assets: $(STAMP)
	@$(PY) -m seglib preflight --fetch

# The stamp is written last: an install that was interrupted is taken up again.
# torch goes first and alone: asked for by exact version, pip need not weigh its many builds.
$(STAMP): pyproject.toml constraints.txt
	@set -e; $(find-python); \
	$(PY) -m pip --version >/dev/null 2>&1 || "$$python" -m venv --clear $(VENV); \
	echo "Installing into $(VENV), once: minutes, and 3 GB of disk; more where PyTorch brings CUDA."; \
	$(PY) -m pip install torch==$(TORCH); \
	$(PY) -m pip install -c constraints.txt -e '.[all]'; \
	touch $@; $(TOOK)

# Sets the shell variable `python` to the first suitable interpreter, or says what was found.
define find-python
python=; found=; \
for candidate in $(PYTHONS); do \
  version=$$($$candidate -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) || continue; \
  found="$$found $$candidate ($$version)"; \
  $$candidate -c 'import sys, ensurepip, venv; assert sys.version_info >= (3, 11)' 2>/dev/null || continue; \
  python=$$candidate; break; \
done; \
if [ -z "$$python" ]; then \
  echo "make: no usable Python among: $(PYTHONS). Found:$${found:- none}." >&2; \
  echo "Python 3.11 or newer with its venv module is needed (Debian: apt-get install python3-venv)," >&2; \
  echo "or name one: make $(or $(MAKECMDGOALS),book) PYTHON=/path/to/python3.12" >&2; \
  exit 1; \
fi
endef

# A new resolve without the old pins, except the ones held here:
# torch (choose with TORCH=x.y.z) and the theme, whose 1.2 and later show a second header.
HOLD := sphinx-book-theme==1.1.4 pydata-sphinx-theme==0.15.4
constraints: ## resolve all dependencies anew and rewrite constraints.txt
	@set -e; $(find-python); fresh=$$(mktemp -d); trap 'rm -rf "$$fresh"' EXIT; \
	"$$python" -m venv "$$fresh"; \
	"$$fresh/bin/python" -m pip install torch==$(TORCH); \
	"$$fresh/bin/python" -m pip install torch==$(TORCH) $(HOLD) '.[all]'; \
	"$$fresh/bin/python" -m pip check; \
	{ sed -n '/^#/p' constraints.txt; \
	  "$$fresh/bin/python" -m pip freeze --exclude seglib | sed 's/+[a-z0-9.]*$$//' \
	    | grep -Eiv '^(nvidia|cuda|triton)'; } > "$$fresh/new"; \
	cp "$$fresh/new" constraints.txt
	@$(TOOK)

# In an environment of its own, and always the newest: an auditor should know today's formats.
# Strict: a package that the advisory service does not know would else be passed over.
audit: ## ask for known vulnerabilities of the pinned packages; needs a network
	@set -e; $(find-python); fresh=$$(mktemp -d); trap 'rm -rf "$$fresh"' EXIT; \
	"$$python" -m venv "$$fresh"; \
	"$$fresh/bin/python" -m pip install --quiet pip-audit; \
	"$$fresh/bin/pip-audit" --requirement constraints.txt --no-deps --disable-pip --strict $(ARGS)
	@$(TOOK)
