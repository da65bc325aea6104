# The commands of this repository; `make help` lists them. The work is done by tools/setup and its
# stages, by CMake presets and by ctest.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: serve test test-long build bench bench-load cuda format asan tsan fuzz clean install package help

PREFIX ?= /usr/local
HOST ?= 127.0.0.1
PORT ?= 8080
MODEL ?= .cache/models/SmolLM2-135M-Instruct
SECONDS_EACH ?= 600
# Further flags of `troupe serve`.
ARGS ?=

tools := packages rust python

serve: ## install, build, prepare the default model and serve it (MODEL= HOST= PORT= ARGS=)
	@CUDA_OPTIONAL=1 tools/setup $(tools) cuda model build
	@exec build/release/bin/troupe serve $(MODEL) --host $(HOST) --port $(PORT) $(ARGS)

test: ## install, build, and run all tests but the long ones
	@tools/setup $(tools) cuda model clients build
	@tools/run_tests release

test-long: ## the tests once more under sanitizers, then the long ones
	@tools/setup $(tools) model clients debian build
	@PRESET=asan tools/setup build
	@tools/run_tests asan
	@PRESET=tsan tools/setup build
	@tools/run_tests tsan
	@tools/run_tests long

build: ## install what is missing and build everything (release)
	@tools/setup $(tools) cuda build

bench: ## measure beside transformers and CTranslate2, in one run (ARGS=)
	@tools/setup $(tools) model peers build
	@tools/run_bench $(ARGS)

bench-load: ## check troupe-load against a server whose times are known, and beside its peers (ARGS=)
	@tools/setup $(tools) model build
	@tests/bench/load_test/bench.py all $(ARGS)

cuda: ## fetch the CUDA compiler (no GPU needed) and build with it
	@tools/setup $(tools) cuda build

format: ## clang-format all of our C++
	@tools/format

asan: ## build and test with address and undefined-behaviour sanitizers
	@PRESET=asan tools/setup $(tools) model build
	@tools/run_tests asan

tsan: ## build and test with the thread sanitizer
	@PRESET=tsan tools/setup $(tools) model build
	@tools/run_tests tsan

fuzz: ## fuzz what reads foreign bytes, SECONDS_EACH= per target (600)
	@PRESET=fuzz tools/setup $(tools) fuzz build
	@tools/run_fuzz $(SECONDS_EACH)

clean: ## delete all builds; downloads and models in .cache stay
	rm -rf build .cache/cargo-target

install: build ## install programs, libraries and headers below PREFIX
	@cmake --install build/release --prefix $(PREFIX)

package: build ## make Debian packages in build/release
	@cd build/release && cpack -G DEB >package.log 2>&1 || { tail -n 20 package.log; exit 1; }
	@ls -1 build/release/*.deb

help: ## list these targets
	@echo "usage: make TARGET"; echo
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/  \1\t\2/p' Makefile | expand -t 14
	@echo; echo "Programs land in build/release/bin, models in .cache/models."
