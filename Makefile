# knode: make build, make up, make test, make bench, make dist, make down.
.DEFAULT_GOAL := help
.PHONY: help build up down verify test fuzz bench dist test-tools

KNODE      := target/release/knode
# Passed to `knode up` as they stand, for example: make up UP="--node-name edge-1".
UP         ?=
DATA_DIR   ?= /var/lib/knode
KUBECONFIG_FILE ?= /etc/knode/admin.kubeconfig

help: ## Show this list
	@sed -nE 's/^([a-z-]+):.*## (.*)/  make \1\t\2/p' Makefile | expand -t 20

build: ## Install what the build needs from Debian, fetch the crates, build the release binary
	@scripts/debian.sh build
	cargo build --release --locked --package knode

up: build ## Start a one-machine cluster in the background, wait until it is Ready, check it
	@scripts/debian.sh run
	@$(KNODE) up --background --data-dir $(DATA_DIR) --write-kubeconfig $(KUBECONFIG_FILE) $(UP)
	@$(KNODE) verify --data-dir $(DATA_DIR) --kubeconfig $(KUBECONFIG_FILE)
	@echo
	@echo "The cluster is up. Its kubeconfig: $(KUBECONFIG_FILE)"
	@echo "Try next:"
	@echo "  export KUBECONFIG=$(KUBECONFIG_FILE)"
	@echo "  kubectl get nodes,pods -A -o wide"
	@echo "  kubectl apply -f nginx-ds.yml      # pulls nginx:1.7.9: needs a registry in reach, or"
	@echo "  $(KNODE) engine import FILE        # an image archive brought along"
	@echo "  make down                          # ends the cluster, keeps its data"

down: ## End the cluster; its data stays (PURGE=1 removes it)
	@$(KNODE) down --data-dir $(DATA_DIR) $(if $(PURGE),--purge)

verify: ## Check the running cluster again
	@$(KNODE) verify --data-dir $(DATA_DIR) --kubeconfig $(KUBECONFIG_FILE)

test-tools:
	@scripts/debian.sh test
	@command -v cargo-deny >/dev/null || cargo install --quiet --debug --locked cargo-deny

test: build test-tools ## Install what the tests need and run all of them
	@KNODE_BIN=$(abspath $(KNODE)) scripts/test.sh

fuzz: ## Fuzz what takes other people's bytes, guided by coverage: SECONDS=300 for each target
	@scripts/debian.sh fuzz
	@scripts/fuzz.sh $(or $(SECONDS),300)

dist: build ## Pack a Debian package and a tarball into target/dist, the same bytes for the same commit
	@cargo xtask dist --binary $(KNODE) --out target/dist

bench: build ## Measure speed and size: a cluster with pods, the pod network between hosts, the engine beside containerd, 10,000 services in the proxy
	@scripts/debian.sh bench
	@KNODE_BIN=$(abspath $(KNODE)) cargo run --quiet --locked --package knode-benches
	@KNODE_BIN=$(abspath $(KNODE)) cargo run --quiet --locked --package knode-benches -- network
	@KNODE_BIN=$(abspath $(KNODE)) cargo run --quiet --locked --package knode-benches -- engine
	@KNODE_BIN=$(abspath $(KNODE)) cargo run --quiet --locked --package knode-benches -- pods
	@cargo bench --quiet --locked --package knode-podnet --package knode-overlay --package knode-policy --package knode-proxy
