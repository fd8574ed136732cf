# esxid. `make help` lists the targets.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# The package's changelog says which version this is.
VERSION ?= $(shell awk -F '[()]' 'NR == 1 { print $$2 }' packaging/debian/changelog)
GO ?= go
# The ISO of make demo; empty means the simulated one.
ISO ?=
# Pinned, so that a new release of a linter cannot break a build.
GOLANGCI_LINT := github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0

export GOFLAGS ?= -buildvcs=false

.PHONY: help build deb dist demo test system-test bench lint fuzz deps clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## build bin/esxid and bin/rig
	$(GO) build -trimpath -ldflags '-X main.version=$(VERSION)' -o bin/esxid ./cmd/esxid
	$(GO) build -trimpath -o bin/rig ./test/rig

deb: ## the Debian package, dist/esxid_VERSION_amd64.deb, from the working tree
	@./scripts/deps-deb
	@GO=$(GO) ./scripts/dist deb $(VERSION)

dist: ## the source tarball, dist/esxid-VERSION.tar.gz, which builds without a network
	@GO=$(GO) ./scripts/dist source $(VERSION)

demo: deps build ## the main job: an ISO goes in, a deployable image is in MAAS (ISO=FILE for a real one)
	@./test/demo.sh $(if $(ISO),"$(ISO)")

test: deps ## all tests, those in virtual machines included
	$(GO) vet -tags system ./...
	$(GO) test -race -shuffle=on -timeout 20m ./...

system-test: deps ## the Debian package on a Debian 12 in a virtual machine; transcript in build/system-test
	$(GO) test -tags system -count=1 -v -timeout 40m ./test/system

bench: deps build ## speed of packing, verifying and uploading against pigz, gzip and bare PUTs
	$(GO) run ./test/bench
	$(GO) run ./test/bench-upload

lint: ## run the linters
	$(GO) run $(GOLANGCI_LINT) run ./...

fuzz: ## fuzz every parser of outside input for 20 seconds each
	@./scripts/fuzz 20s

deps: ## install the Debian packages that building and testing need
	@./scripts/deps

clean: ## remove what building made
	rm -rf bin dist
