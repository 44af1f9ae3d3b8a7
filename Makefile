# Every target does its own set-up: Python >= 3.11 and make are enough (tools/uv.sh installs the rest into .uv and .venv).
# Programs run directly from .venv, so that signals reach them and not a wrapper.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: run test test-faults test-compose up down password lint types proto lock bench-replay bench-learner bench-shipper bench-publishing bench-pong clean help

BIN := .venv/bin
SYNCED := .venv/.synced
COMPOSE = docker compose -f deploy/compose.yaml $(if $(GPU),-f deploy/compose.gpu.yaml) $(if $(SHIPPER),--profile $(SHIPPER))
PROJECTS := pyproject.toml $(wildcard libs/*/pyproject.toml services/*/pyproject.toml)

# If the Python under .venv was upgraded or removed, its link dangles: set up again.
$(shell test -x $(BIN)/python || rm -f $(SYNCED))

$(SYNCED): $(PROJECTS) tools/uv.sh
	@tools/uv.sh sync
	@touch $@

run: $(SYNCED) ## Start everything on this machine: make run ARGS="--agents 3"
	@exec $(BIN)/borg up $(ARGS)

test: $(SYNCED) ## Run all tests, integration included: make test ARGS="-k replay"
	@exec $(BIN)/pytest $(ARGS)

test-faults: $(SYNCED) ## Test all faults at full scale (50 kills, 60-second outages, 10 million events): 30 minutes; needs Kafka and Elasticsearch
	@TEST_BORG_FAULTS=full exec $(BIN)/pytest tests/faults --timeout 3600 $(ARGS)

lint: $(SYNCED) ## Check rules, format, imports, and that generated files are current
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/lint-imports
	$(BIN)/hadolint deploy/Dockerfile
	$(BIN)/check-jsonschema --quiet --builtin-schema vendor.compose-spec compose.yaml $(wildcard deploy/compose*.yaml)
	$(BIN)/check-jsonschema --quiet --builtin-schema vendor.github-workflows .github/workflows/ci.yml
	tools/check-generated.sh

types: $(SYNCED) ## Run mypy, strict, on members, tests and bench
	$(BIN)/mypy

up: ## Start the full stack in Docker: make up ARGS="--scale agent=3"; SHIPPER=logstash, GPU=1
	@docker compose version >/dev/null || { echo "make up needs Docker with its compose plugin (docker compose)" >&2; exit 1; }
	@$(COMPOSE) up --detach --build $(if $(filter logstash,$(SHIPPER)),--scale logshipper=0) $(ARGS)
	@echo "Kibana: http://localhost:$$($(COMPOSE) port kibana 5601 | sed 's/.*://')  user borg, password $$($(MAKE) -s password)"

down: ## Stop the full stack and keep its data; make down ARGS=--volumes removes it
	@$(COMPOSE) --profile '*' down $(ARGS)

password: ## Print the password of Kibana's user borg
	@$(COMPOSE) run --rm --no-deps -T keys password 2>/dev/null

test-compose: $(SYNCED) ## Test the full stack end to end on images built here; needs Docker, 15 minutes, 15 GB
	@TEST_BORG_COMPOSE=$${TEST_BORG_COMPOSE:-official} exec $(BIN)/pytest tests/compose $(ARGS)

proto: $(SYNCED) ## Regenerate borgcore/wire from proto/
	PYTHON="$$PWD/$(BIN)/python" proto/generate.sh

lock: ## Write requirements/<member>.txt with hashes; the next target installs the changes
	requirements/export.sh
	@rm -f uv.lock $(SYNCED)

bench-replay: $(SYNCED) ## Measure the replay memory; prints JSON lines
	@exec $(BIN)/python -m bench.replay $(ARGS)

bench-learner: $(SYNCED) ## Measure a real learner, GPU included: make bench-learner ARGS="--preset nature"
	@exec $(BIN)/python -m bench.learner $(ARGS)

bench-shipper: $(SYNCED) ## Compare the logshipper with rsyslog; needs TEST_BORG_KAFKA, TEST_BORG_ELASTICSEARCH
	@exec $(BIN)/python -m bench.shipper $(ARGS)

bench-publishing: $(SYNCED) ## Measure an agent's cost of publishing events: make bench-publishing ARGS="--game pong"
	@exec $(BIN)/python -m bench.publishing $(ARGS)

bench-pong: $(SYNCED) ## Measure how soon Pong is solved, then greedy play: make bench-pong ARGS="--seeds 1 2 3"
	@exec $(BIN)/python -m bench.pong $(ARGS)

clean: ## Remove environments and caches; keep runs/
	rm -rf .venv .uv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache uv.lock
	find bench libs services tests -name __pycache__ -prune -exec rm -rf {} +

help: ## Print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
