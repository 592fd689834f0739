# The verbs of this project. Each installs what is missing, builds, and does its work.
BUILD  := build
JOBS   := $(shell nproc)
# Debian's own, which sees the packages of tools/debian-packages.txt.
PYTHON := /usr/bin/python3
comma  := ,
# Black-box tests that the sanitizers see too: all examples, SIGKILL under load, the whole HTTP API.
SANITIZED := tests/test_examples.py tests/crash_test.py tests/delivery_test.py tests/http_ingest_test.py tests/http_query_test.py tests/http_events_test.py
# ccache sees through the precompiled header, and shares its results between clones.
export CCACHE_SLOPPINESS = pch_defines,time_macros,include_file_mtime,include_file_ctime
export CCACHE_BASEDIR = $(CURDIR)
export CCACHE_NOHASHDIR = 1
# Ninja's line: steps done, steps in all, seconds.
export NINJA_STATUS = [%f/%t, %e s] 

# $(call build,FOLDER,CMAKE OPTIONS,TARGETS)
define build
	@test -f $(1)/build.ninja || cmake -S . -B $(1) -G Ninja $(2) > /dev/null
	@cmake --build $(1) -j $(JOBS) --target $(3)
endef

.NOTPARALLEL:
.PHONY: help run build test check floors format lint asan tsan examples bench fuzz docs setup setup-test setup-check clean

help:            ## this list
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 18

run: build       ## build, then show the main job at work: millstream demo
	@$(BUILD)/millstream demo

build: setup     ## build the binary, build/millstream
	$(call build,$(BUILD),,millstream)

test: setup-test ## all tests on the release build; ends with one line of totals
	$(call build,$(BUILD),,all)
	@$(PYTHON) tools/test.py --build $(BUILD) --jobs $(JOBS) --python tests tools

check: floors format lint asan tsan ## what a change must pass beside `make test`: house rules, lint, sanitizers

floors:          ## who includes whom, file sizes, links in the docs
	@$(PYTHON) tools/check_floors.py
	@$(PYTHON) tools/check_docs.py

format: setup-check ## formatting as .clang-format has it; FIX=1 rewrites
	@if [ -n "$(FIX)" ]; then git ls-files 'src/*.cc' 'src/*.h' 'bench/*.cc' | xargs clang-format -i; fi
	@if git ls-files 'src/*.cc' 'src/*.h' 'bench/*.cc' | xargs clang-format --dry-run -Werror 2>&1 | grep -oE '^(src|bench)/[^:]*' | sort -u | grep .; \
	then echo "format: these differ; make format FIX=1 rewrites them"; exit 1; else echo "format: ok"; fi

lint: setup-check ## clang-tidy over src/
	$(call build,$(BUILD),,precompiled)
	@$(PYTHON) tools/lint.py --build $(BUILD) --jobs $(JOBS)

asan: setup-check ## tests, examples and engine runs under AddressSanitizer and UndefinedBehaviorSanitizer
	$(call build,build-asan,-DMILLSTREAM_SANITIZE=address$(comma)undefined,tests)
	@$(PYTHON) tools/test.py --build build-asan --jobs $(JOBS) --slowness 5 --python $(SANITIZED)

tsan: setup-check ## the same under ThreadSanitizer
	$(call build,build-tsan,-DMILLSTREAM_SANITIZE=thread,tests)
	@$(PYTHON) tools/test.py --build build-tsan --jobs $(JOBS) --slowness 10 --python $(SANITIZED)

bench: setup-check ## benchmarks, about half an hour; QUICK=1 three rates; bench/README.md says what they mean
	$(call build,$(BUILD),,millstream paced_sender)
	@$(PYTHON) tools/bench.py --build $(BUILD) $(if $(QUICK),--quick,--markdown $(BUILD)/bench.md --json $(BUILD)/bench.json)

fuzz: setup-check ## each fuzz target for FOR seconds (60)
	$(call build,build-fuzz,-DMILLSTREAM_FUZZ=ON -DCMAKE_CXX_COMPILER=clang++-16 -DCMAKE_C_COMPILER=clang-16,fuzz)
	@tools/fuzz.sh build-fuzz $(or $(FOR),60)

docs: build      ## write the reference pages of docs/ from the binary's own Specs
	@$(PYTHON) tools/docs.py --binary $(BUILD)/millstream

setup:
	@tools/setup.sh run
setup-test:
	@tools/setup.sh test
setup-check:
	@tools/setup.sh check

clean:           ## remove everything that was built
	rm -rf build build-asan build-tsan build-fuzz
