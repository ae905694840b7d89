# Everything a fresh machine with Python 3.11 or newer needs: `make demo` and `make test`.

PYTHON ?= python3
# Work in the active virtual environment, or else in one of our own.
ifdef VIRTUAL_ENV
VENV := $(VIRTUAL_ENV)
else
VENV := .venv
endif
BIN := $(VENV)/bin
DEMO := runs/demo

.PHONY: demo test check slow weights bench clean

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

# torch first and by itself: on Linux without a GPU its ordinary wheel would bring gigabytes of CUDA along.
$(VENV)/.glassformer-run: pyproject.toml | $(VENV)/bin/python
	PATH="$(abspath $(BIN)):$$PATH" sh .ci/install-torch
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

$(VENV)/.glassformer-dev: $(VENV)/.glassformer-run
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@

demo: $(VENV)/.glassformer-run
	rm -rf $(DEMO)
	$(BIN)/glassformer train --demo --minutes 1.5 --out-dir $(DEMO) --sample-prompt "The following methods "
	@echo
	$(BIN)/glassformer generate $(DEMO) -p "The following methods " --max-new-tokens 80
	@echo
	$(BIN)/glassformer explain $(DEMO) "The following methods "
	@echo
	@echo "Now with your own file:"
	@echo "  $(BIN)/glassformer train my.txt --out-dir runs/my"
	@echo "  $(BIN)/glassformer generate runs/my -p 'A beginning of your own'"
	@echo "  $(BIN)/glassformer explain runs/my 'A beginning of your own'"

# One process for each core, whole files to each: what the tests of a file share is made once.
test: $(VENV)/.glassformer-dev
	$(BIN)/python -m pytest --numprocesses logical --maxprocesses 8 --dist loadfile

check: $(VENV)/.glassformer-dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/pyright --pythonpath $(BIN)/python
	PATH="$(abspath $(BIN)):$$PATH" lint-imports

slow: $(VENV)/.glassformer-dev
	$(BIN)/python -m pytest -m slow --timeout 3600

weights: $(VENV)/.glassformer-dev
	$(BIN)/python .ci/fetch-weights
	$(BIN)/python -m pytest -m weights --timeout 3600

bench: $(VENV)/.glassformer-dev
	$(BIN)/python benchmarks/startup.py
	$(BIN)/python benchmarks/tokenizer.py
	$(BIN)/python benchmarks/train_lm.py
	$(BIN)/python benchmarks/train_lm.py --steps-only
	$(BIN)/python benchmarks/train_lm.py --ten-minutes
	$(BIN)/python benchmarks/seq2seq.py

clean:
	rm -rf .venv $(DEMO) .pytest_cache .ruff_cache .hypothesis .import_linter_cache
