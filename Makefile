# The targets; `make run` and `make test` do all their own set-up on a Debian machine with Go.

GO      ?= go
BIN     := bin
VERSION ?= 0.1.0-dev
LDFLAGS := -s -w -X main.version=$(VERSION)
FUZZ    ?= 2m

.PHONY: build run test soak check diff fuzz bench steps image clean

build:
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags "$(LDFLAGS)" -o $(BIN)/godwit ./cmd/godwit

# Serves examples/quickstart on 127.0.0.1:1053.
run: build
	examples/quickstart/run.sh $(BIN)/godwit

# Everything that decides whether a change lands: static checks, all tests (the node's by themselves, since they count what
# is lost), and those without a control plane again under the race detector with released buffers poisoned.
test:
	test/deps.sh
	test/controlplane/build.sh
	$(GO) vet ./...
	$(GO) vet -tags portable ./loop ./server ./upstream
	$(GO) test -tags portable ./loop
	$(GO) test -timeout 20m $$($(GO) list ./... | grep -v /test/netns)
	$(GO) test -timeout 20m ./test/netns
	$(GO) test -race -timeout 20m $$($(GO) list ./... | grep -v /test/)

# The node's long tests: a hundred upgrades under load and as many kills, with the times that docs/node.md promises. Needs
# root, and takes a quarter of an hour.
soak:
	test/deps.sh
	$(GO) test -count=1 -timeout 2h -v ./test/netns -long

# Only the checks that need no build of anything else: quick.
check:
	$(GO) vet ./...
	$(GO) test -short ./internal/... ./wire ./corefile ./chain ./metrics ./loop

# Compares with a coredns binary: make diff COREDNS=/path/to/coredns [CASE=glob]
diff: build
	@test -n "$(COREDNS)" || { echo "make diff needs COREDNS=/path/to/coredns (1.14.7)"; exit 2; }
	$(GO) run ./test/diff -coredns "$(COREDNS)" -godwit "$(CURDIR)/$(BIN)/godwit" -case "$(or $(CASE),*)"

# Every fuzz target for FUZZ each.
fuzz:
	@for pkg in $$($(GO) list ./... | grep -v /test/); do \
		for f in $$($(GO) test -list '^Fuzz' $$pkg | grep '^Fuzz' || true); do \
			echo "$$pkg $$f"; $(GO) test -run '^$$' -fuzz "^$$f\$$" -fuzztime $(FUZZ) $$pkg || exit 1; \
		done; \
	done

# Measures everything and writes docs/benchmarks.md: make bench [BENCH="-only hit -short"] [PEER='name=command']
bench:
	test/deps.sh bench
	test/controlplane/build.sh
	$(GO) run ./bench $(BENCH)

# Times each step of a query's walk, and compares with figures of before: make steps [COUNT=8] [OUT=steps.txt] [OLD=file]
steps:
	$(GO) test -run '^$$' -bench . -benchmem -count $(or $(COUNT),8) $$($(GO) list ./... | grep -v /test/) | tee $(or $(OUT),$(BIN)/steps.txt)
	$(GO) tool benchstat $(OLD) $(or $(OUT),$(BIN)/steps.txt)

# The images that take CoreDNS's and node-cache's place, as OCI archives: see deploy/README.md.
image:
	@mkdir -p $(BIN)
	test/image/build.sh $(BIN)/godwit.tar coredns
	test/image/build.sh $(BIN)/godwit-node-cache.tar node-cache

clean:
	rm -rf $(BIN)
