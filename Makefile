# Marblerun. `make demo` and `make test` need only Go.

VERSION ?= 0.1.0
COMMIT  := $(shell git rev-parse HEAD 2>/dev/null || echo 0000000000000000000000000000000000000000)
LDFLAGS := -s -w -buildid= -X main.version=$(VERSION) -X main.commit=$(COMMIT)
GOBUILD := CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags '$(LDFLAGS)'

.PHONY: build demo test e2e bench lint fuzz docs clean help

help: ## Show the targets
	@awk -F':.*## ' '/^[a-z0-9-]+:.*## /{printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## Build all programs into bin/, reproducibly
	@mkdir -p bin
	$(GOBUILD) -o bin/ ./cmd/...

demo: ## See it work: attested Marbles, a crash, refusals and why (KEEP=1 leaves it running)
	@go run ./samples/demo

test: ## Run all tests with the race detector
	@go run ./test/report -- -race -timeout 20m ./...

e2e: ## Test on a real Kubernetes cluster, built and brought up for it (KEEP=1 leaves it; KUBECONFIG names another)
	@test/e2e/run

bench: ## Measure activations, the verifier and the journal beside the cryptography they need
	@MARBLERUN_BENCH=$${MARBLERUN_BENCH:-full} go test -count=1 -timeout 60m -v ./test/bench
	@cd test/peers && MARBLERUN_BENCH=$${MARBLERUN_BENCH:-full} go test -count=1 -timeout 20m -v -run '^TestVerificationCost$$' .

lint: ## Vet, format and static analysis
	@sh .ci/lint

fuzz: ## Fuzz every parser for FUZZTIME (default 10s) each
	@sh .ci/fuzz

.PHONY: images release
images: ## Make OCI images in dist/images, without a container engine (PLATFORMS=linux/amd64 for one)
	@go run ./release -version $(VERSION) -only images -platforms "$(PLATFORMS)"

release: ## Make all of a release in dist/: programs, images, SBOMs, Helm repository (docs/howto/release.md)
	@go run ./release -version $(VERSION) -platforms "$(PLATFORMS)"

clean: ## Remove build output
	rm -rf bin dist
