# hull: `make help` lists the targets. Nothing but Go and make is needed for build, demo and test.

GO ?= go
export CGO_ENABLED = 0
# No library's manual pages, and no HTTP/2, which no registry requires: 0.5 MB.
export TAGS = urfave_cli_no_docs,nethttpomithttp2
# Go's heap begins at the same address each time, where a huge page does: see internal/prefault. A Go that does not know the
# word any more does without.
export GOEXPERIMENT := $(shell GOEXPERIMENT=norandomizedheapbase64 $(GO) version >/dev/null 2>&1 && echo norandomizedheapbase64)
# Packages whose time hardly shows are compiled without inlining.
cold := $(foreach p,crypto/... encoding/... math/big net/http regexp/... text/... vendor/... github.com/google/... \
	github.com/docker/... github.com/hullrun/hull/commands github.com/hullrun/hull/registry github.com/mdlayher/... \
	github.com/opencontainers/... github.com/sirupsen/... github.com/urfave/... github.com/vishvananda/... \
	gvisor.dev/gvisor/pkg/state/...,-gcflags=$p=-l)
VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)

.DEFAULT_GOAL := build
.PHONY: build demo test lint bench vm-test fuzz clean help

build: ## bin/hull: one static binary
	$(GO) build -trimpath -tags $(TAGS) $(cold) -ldflags '-s -w -X main.version=$(VERSION)' -o bin/.linked .
	@# What is written in one write lies in huge pages of the page cache, if its file system can, and each is mapped with one
	@# entry, where the linker leaves small ones. A hull that runs keeps its file.
	@cmp -s bin/.linked bin/hull || { dd if=bin/.linked of=bin/.new.$$$$ bs=64M status=none && chmod +x bin/.new.$$$$ && \
		mv bin/.new.$$$$ bin/hull; }

demo: build ## the main job: a registry on loopback, pull, run with limits, exit status; as root and as an ordinary user
	@scripts/demo.sh

test: build ## all tests, as root and as an ordinary user that is made for the purpose (P='./layers ./run' RUN=TestX chooses)
	@$(GO) run ./internal/testrun -run '$(RUN)' $(if $(EVENTS),-events $(EVENTS)) $(P)

lint: ## gofmt, go vet, staticcheck, shell syntax, import rules
	@scripts/lint.sh

bench: build ## how fast, side by side with the peers that are installed (ROW=start,pull N=50 chooses)
	@$(GO) run ./testdata/bench $(if $(ROW),-row $(ROW)) $(if $(N),-n $(N))

vm-test: build ## the tests that need cgroup v2, and networks, in a QEMU guest on Debian's kernel
	@scripts/vm-test.sh

fuzz: ## each fuzz target for a while (T=30s)
	@scripts/fuzz.sh $(or $(T),30s)

clean: ## remove bin/ and what bench and vm-test keep for the next time
	rm -rf bin "$${XDG_CACHE_HOME:-$$HOME/.cache}/hull"

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
