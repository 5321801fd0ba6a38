# The chores of this project; `make help` lists them. Each sets up what it needs, in .venv.

PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
export PIP_DISABLE_PIP_VERSION_CHECK = 1

.DEFAULT_GOAL := help
.PHONY: help demo test tested torch lint matrix docs kit campaign bench clean programs measured copiers

help: ## List the chores.
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1|\2/p' $(MAKEFILE_LIST) | column -t -s '|' 2>/dev/null \
		|| sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1: \2/p' $(MAKEFILE_LIST)

demo: $(VENV)/.cli ## See what holdall does, on this folder's own files; writes ./demo-output.
	@$(BIN)/python demo/demo.py

# What npm brings, what lint finds and what is compiled come at the same time; where one fails, the others end first.
# The tests don't wait for lint and the site.
test: programs ## Lint, build the site and run every test: units, conformance, doctests, documentation, demo.
	@$(MAKE) --no-print-directory -j 3 tested lint docs \
		|| { echo "make test failed; '***' above, perhaps before what the tests said, names each part that did" >&2; exit 1; }

tested: $(VENV)/.compiled $(VENV)/.azurite $(VENV)/.peers
	@$(call run_tests,PATH="$(AZURITE):$$PATH",)

# Run pytest: environment, arguments. Of two workers on two cores, one waits for a seventh of the time: for servers,
# for what expires, for those that it kills.
run_tests = folder=$$(mktemp -d -p $(TESTED_IN) holdall.XXXXXX) && chmod 755 "$$folder" \
	&& echo "the tests' files are in $$folder, which goes if they pass" \
	&& env -u PYTHONDONTWRITEBYTECODE TMPDIR="$$folder" XDG_CONFIG_HOME="$$folder/settings" $(1) $(BIN)/python -m pytest -n 3 --dist worksteal $(2) \
	&& rm -rf "$$folder"

# Tests take half as long again where their files lie on a disk, so they lie in memory if it has room for them;
# and a thousand processes start in them, which should find their modules compiled.
TESTED_IN ?= $(or $(TMPDIR),$(shell df --output=avail /dev/shm 2>/dev/null | awk '$$1 + 0 > 8e6 {print "/dev/shm"}'),/tmp)

torch: $(VENV)/.torch ## Run the tests that need PyTorch, which takes some gigabytes.
	$(BIN)/python -m pytest tests_torch

lint: $(VENV)/.dev ## ruff and pyright --strict.
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/pyright --pythonpath $(BIN)/python

# The types are checked against the packages of .venv; the kit runs in a venv of each Python, in .venv/matrix.
PYTHONS = 3.11 3.12 3.13 3.14
matrix: $(VENV)/.dev programs ## Check the types, and run the kit at its lowest grade, on each Python from 3.11 to 3.14.
	@passed= failed= missing=; \
	for version in $(PYTHONS); do \
		python=$$(IFS=:; for folder in $$PATH "$${PYENV_ROOT:-$$HOME/.pyenv}"/versions/$$version[.-]*/bin; do \
			"$$folder/python$$version" -c 'import ensurepip' 2>/dev/null && echo "$$folder/python$$version" && break; done); \
		[ -n "$$python" ] || { missing="$$missing $$version"; continue; }; \
		echo "--- Python $$version, $$python"; \
		if $(BIN)/pyright --pythonpath $(BIN)/python --pythonversion $$version \
			&& $(MAKE) --no-print-directory kit VENV=$(VENV)/matrix/$$version PYTHON="$$python"; \
		then passed="$$passed $$version"; else failed="$$failed $$version"; fi; \
	done; \
	echo "passed:$${passed:- none}"; \
	[ -z "$$missing" ] || echo "not found:$$missing"; \
	[ -z "$$failed" ] || { echo "failed:$$failed" >&2; exit 1; }; \
	[ -n "$$passed" ]

# Every store but the clouds', whose packages are the heaviest, every layer, the plug-in of examples/, and zarr's
# tests, since the newest zarr isn't for each Python.
kit: $(VENV)/.kit
	$(BIN)/python -m pytest -q tests/test_plugin_package.py
	@$(call run_tests,HOLDALL_KIT=quick,-q --kit tests/test_conformance.py tests/layers $(KIT:%=tests/stores/test_%.py))
	@$(call run_tests,,-q tests/interop/test_zarr.py)
KIT = filesystem git valkey zip

# What isn't a warning of the site, but a docstring that can't be read, fails it too.
docs: $(if $(filter lint,$(MAKECMDGOALS)),$(VENV)/.dev,$(VENV)/.docs) ## Build the site of the documentation in ./site; a warning fails it.
	@log=$$($(BIN)/zensical build --clean --strict 2>&1) && ! printf '%s\n' "$$log" | grep -q '^griffe:' \
		|| { printf '%s\n' "$$log" >&2; exit 1; }
	@echo "the site is in ./site; to read it: $(BIN)/zensical serve"

campaign: $(VENV)/.compiled programs $(VENV)/.azurite $(VENV)/.peers ## Attack every store for half an hour, then run every test at full effort.
	$(BIN)/python -m campaign
	@$(call run_tests,PATH="$(AZURITE):$$PATH" HOLDALL_KIT=full,)

bench: measured $(VENV)/.bench copiers ## Measure holdall against raw calls and other libraries.
	$(BIN)/python -m benchmarks

clean: ## Delete .venv and everything else that the chores made.
	rm -rf $(VENV) demo-output site .cache .pytest_cache .ruff_cache .hypothesis build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# --- the virtual environment; a stamp says what is in it ---

# Debian's python3 comes without ensurepip, which python3-venv brings.
$(VENV)/.made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "holdall needs Python 3.11 or later; say which: make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null \
		|| { [ "$$(id -u)" = 0 ] && apt-get update && apt-get install -y --no-install-recommends python3-venv; } \
		|| { echo "python3 can't make a venv; as root: apt-get install python3-venv" >&2; exit 1; }
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'  # knows dependency groups
	@touch $@

$(VENV)/.cli: $(VENV)/.made pyproject.toml
	$(BIN)/python -m pip install --quiet --editable '.[cli]'
	@touch $@

# pip would compile what it installs before lint begins, which doesn't need that.
$(VENV)/.dev: $(VENV)/.made pyproject.toml
	$(BIN)/python -m pip install --quiet --no-compile --editable '.[all,testing]' --group dev
	@touch $@ $(VENV)/.cli

# What is compiled where a test imports it warns of its syntax, which the tests take for an error. Some packages bring
# files that no Python compiles. Two fifths of it are the packages' own tests, and what only other services of moto need.
# The tests themselves are compiled by pytest, which rewrites their asserts: each worker would do that by itself.
$(VENV)/.compiled: $(VENV)/.dev
	@env -u PYTHONDONTWRITEBYTECODE $(BIN)/python -W ignore -m compileall -qq -x '/(tests|moto|sympy|networkx)/' \
		$(VENV)/lib || true
	@env -u PYTHONDONTWRITEBYTECODE $(BIN)/python -W ignore -m compileall -qq src
	@env -u PYTHONDONTWRITEBYTECODE $(BIN)/python -m pytest -p tests.imported --collect-only -qq tests >/dev/null || true
	@touch $@

# The tests of zarr and of py-key-value come with their sources only, and of the latter only under its first name.
$(VENV)/.peers: $(VENV)/.dev
	@for name in zarr kv-store-adapter; do ( rm -rf $(VENV)/$$name && mkdir $(VENV)/$$name && cd $(VENV)/$$name \
		&& version=$$(../bin/python -c "from importlib.metadata import version; print(version('$$name'))") \
		&& ../bin/python -m pip download --quiet --no-deps --no-binary $$name "$$name==$$version" \
		&& tar -xzf *.tar.gz --strip-components=1 --wildcards '*/tests' '*/pyproject.toml' ) || exit 1; done
	@touch $@

$(VENV)/.kit: $(VENV)/.made pyproject.toml
	$(BIN)/python -m pip install --quiet --editable . --group kit
	@touch $@

$(VENV)/.docs: $(VENV)/.made pyproject.toml
	$(BIN)/python -m pip install --quiet --group docs
	@touch $@

$(VENV)/.torch: $(VENV)/.compiled
	$(BIN)/python -m pip install --quiet --editable '.[torch]'
	@touch $@

$(VENV)/.bench: $(VENV)/.made pyproject.toml
	$(BIN)/python -m pip install --quiet --editable '.[all]' --group bench
	@touch $@ $(VENV)/.cli

# The tests ask other programs what they think of archives and of compressed blobs, and start real servers.
PROGRAMS = zip unzip zstd lz4 git git-lfs ssh-keygen redis-server openssl radosgw ceph-mon ceph-osd ceph nginx apache2 pgbouncer
PACKAGES = $(patsubst ssh-keygen,openssh-client,$(PROGRAMS:ceph=ceph-common)) locales postgresql openssh-sftp-server
programs:
	@( PATH="$$PATH:/usr/sbin"; for program in $(PROGRAMS); do command -v $$program || exit 1; done; \
		ls /usr/lib/postgresql/*/bin/postgres /usr/lib/openssh/sftp-server && test -e /usr/share/i18n/locales/en_US ) >/dev/null \
		|| { [ "$$(id -u)" = 0 ] && apt-get update && apt-get install -y --no-install-recommends $(PACKAGES); } \
		|| { echo "the tests need these; as root: apt-get install $(PACKAGES)" >&2; exit 1; }

# Azure's own server for tests, from npm.
AZURITE = $(abspath $(VENV))/npm/node_modules/.bin
$(VENV)/.azurite: $(VENV)/.made
	@command -v npm >/dev/null \
		|| { [ "$$(id -u)" = 0 ] && apt-get update && apt-get install -y --no-install-recommends npm; } \
		|| { echo "the tests need npm; as root: apt-get install npm" >&2; exit 1; }
	npm install --silent --no-audit --no-fund --prefix $(VENV)/npm azurite
	@touch $@

# What the benchmarks start, and what pip builds PyICU with, which anystore needs.
measured:
	@{ { command -v valkey-server || command -v redis-server; } && command -v git && command -v g++ \
		&& pkg-config --exists icu-i18n; } >/dev/null \
		|| { [ "$$(id -u)" = 0 ] && apt-get update \
			&& apt-get install -y --no-install-recommends redis-server git g++ pkg-config libicu-dev; } \
		|| { echo "the benchmarks need these; as root: apt-get install redis-server git g++ pkg-config libicu-dev" >&2; \
			exit 1; }

# What a sync is measured against; it is measured without them too.
copiers:
	@{ command -v rclone && command -v rsync; } >/dev/null \
		|| { [ "$$(id -u)" = 0 ] && apt-get update && apt-get install -y --no-install-recommends rclone rsync; } \
		|| echo "rclone or rsync is missing, and is left out; as root: apt-get install rclone rsync" >&2
