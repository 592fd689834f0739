# The verbs of this project. Each installs what is missing, builds, and does its work.
BUILD  := build
JOBS   := $(shell nproc)
# Debian's own, which sees the packages of tools/debian-packages.txt.
PYTHON := /usr/bin/python3
comma  := ,
# What breaks things on purpose (docs/reliability.md); tests/sizes.py has the sizes.
FAULTS := tests/crash_test.py tests/power_cut_test.py tests/fault_point_test.py tests/fault_sync_test.py tests/fault_signal_test.py tests/fault_disk_test.py tests/fault_descriptors_test.py tests/fault_memory_test.py \
          tests/fault_damage_test.py tests/fault_tables_test.py tests/backup_test.py tests/sandbox_test.py tests/fault_change_test.py tests/golden_folder_test.py tests/poison_test.py tests/abuse_test.py \
          tests/sql_attack_test.py tests/clock_test.py tests/hot_change_test.py tests/property_test.py tests/model_test.py tests/postgres_test.py
SOAK_CRASH_STATES := 2000000
SOAK_SIMULATIONS := 1000000
# Black-box tests that the sanitizers see too: all examples, SIGKILL under load, the whole HTTP API.
SANITIZED := tests/test_examples.py tests/crash_test.py tests/delivery_test.py tests/http_ingest_test.py tests/http_query_test.py tests/http_events_test.py
# The rooms whose threads meet: their tests run under ThreadSanitizer too, but for those that need minutes there and say nothing
# about threads: models, oracles and enumerations in one thread, and kills of a child.
THREADED := log tables sinks pipeline server
UNTHREADED := CrashStatesTest.*:*.AtEveryCrashPoint*:*/CrashTest.*:*/FoldTest.AnswersEqualTheOracle*:KeySequencer.*:Simulator.*:Fuzz.*
# Black-box tests in which the engine's threads meet: SIGKILL and changes under load, readers and waits beside writers, cutovers, commands.
THREADED_PYTHON := tests/crash_test.py tests/hot_change_test.py tests/model_test.py tests/delivery_test.py tests/http_events_test.py tests/abuse_test.py \
          tests/http_ingest_test.py::test_offsets_of_one_request_are_consecutive_beside_others \
          $(addprefix tests/http_query_test.py::test_,readers_beside_a_writer_see_whole_batches a_burst_waits_for_its_turn_and_a_wait_takes_no_place \
            deadlines_and_clients_that_leave waits) \
          tests/replay_test.py::test_cutover_under_load_and_kills tests/command_test.py::test_no_account_falls_below_zero \
          tests/sandbox_test.py::test_tables_waits_feeds_and_a_drop_under_them
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
.PHONY: help run build test faults soak teeth check floors format lint asan tsan examples bench fuzz docs setup setup-test setup-check clean

help:            ## this list
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 18

run: build       ## build, then show the main job at work: millstream demo
	@$(BUILD)/millstream demo

build: setup     ## build the binary, build/millstream
	$(call build,$(BUILD),,millstream)

test: setup-test ## all tests on the release build; ends with one line of totals
	$(call build,$(BUILD),,all)
	@$(PYTHON) tools/test.py --build $(BUILD) --jobs $(JOBS) --python tests tools

faults: setup-test ## the suites that break things on purpose, at CI's size; MILLSTREAM_KILLS=1000 and the like set one
	$(call build,$(BUILD),,millstream log_test pipeline_test)
	@$(BUILD)/log_test --gtest_brief=1
	@$(BUILD)/pipeline_test --gtest_brief=1 --gtest_filter='Simulator.*'
	@$(PYTHON) -m pytest -q -p no:cacheprovider -n $(JOBS) $(FAULTS)

soak: setup-test ## the same at their full size, which takes days; output in build/soak.log
	$(call build,$(BUILD),,millstream log_test pipeline_test)
	@bash -o pipefail -c '(failed=0; \
	  MILLSTREAM_CRASH_STATES=$(SOAK_CRASH_STATES) $(BUILD)/log_test --gtest_brief=1 || failed=1; \
	  MILLSTREAM_SIMULATIONS=$(SOAK_SIMULATIONS) $(BUILD)/pipeline_test --gtest_brief=1 --gtest_filter='Simulator.*' || failed=1; \
	  MILLSTREAM_SOAK=1 $(PYTHON) -m pytest -q -s -p no:cacheprovider -n $(JOBS) $(FAULTS) || failed=1; \
	  exit $$failed) 2>&1 | tee $(BUILD)/soak.log'

teeth: setup-test ## proves that the suites can fail: each planted bug must turn one red; PROGRAMS=1 by test programs alone, in a minute
	$(call build,$(BUILD),,$(if $(PROGRAMS),,millstream_planted) log_test sinks_test pipeline_test)
	@$(PYTHON) tools/teeth.py --build $(BUILD) $(if $(PROGRAMS),--programs) $(BUGS)

check: floors format lint asan tsan ## what a change must pass beside `make test`: house rules, lint, sanitizers

floors:          ## who includes whom, file sizes, links in the docs
	@$(PYTHON) tools/check_floors.py
	@$(PYTHON) tools/check_docs.py

format: setup-check ## formatting as .clang-format has it; FIX=1 rewrites
	@if [ -n "$(FIX)" ]; then git ls-files 'src/*.cc' 'src/*.h' 'bench/*.cc' | xargs clang-format -i; fi
	@if git ls-files 'src/*.cc' 'src/*.h' 'bench/*.cc' | xargs clang-format --dry-run -Werror 2>&1 | grep -oE '^(src|bench)/[^:]*' | sort -u | grep .; \
	then echo "format: these differ; make format FIX=1 rewrites them"; exit 1; else echo "format: ok"; fi

lint: setup-check ## clang-tidy over src/, each source by itself
	$(call build,build-lint,-DMILLSTREAM_UNITY=OFF,precompiled)
	@$(PYTHON) tools/lint.py --build build-lint --jobs $(JOBS)

asan: setup-check ## tests, examples and engine runs under AddressSanitizer and UndefinedBehaviorSanitizer
	$(call build,build-asan,-DMILLSTREAM_SANITIZE=address$(comma)undefined,tests)
	@$(PYTHON) tools/test.py --build build-asan --jobs $(JOBS) --slowness 5 --python $(SANITIZED)

tsan: setup-check ## the rooms whose threads meet, and engine runs under load, under ThreadSanitizer
	$(call build,build-tsan,-DMILLSTREAM_SANITIZE=thread,millstream $(THREADED:%=%_test))
	@GTEST_FILTER='-$(UNTHREADED)' $(PYTHON) tools/test.py --build build-tsan --jobs $(JOBS) --slowness 10 --rooms $(THREADED) --python $(THREADED_PYTHON)

bench: setup-check ## benchmarks, about half an hour; QUICK=1 three rates; bench/README.md says what they mean
	$(call build,$(BUILD),,millstream paced_sender)
	@$(PYTHON) tools/bench.py --build $(BUILD) $(if $(QUICK),--quick,--markdown $(BUILD)/bench.md --json $(BUILD)/bench.json)

fuzz: setup-check ## each fuzz target for FOR seconds (60)
	$(call build,build-fuzz,-DMILLSTREAM_FUZZ=ON -DCMAKE_CXX_COMPILER=clang++-16 -DCMAKE_C_COMPILER=clang-16,fuzz)
	@tools/fuzz.sh build-fuzz $(or $(FOR),60) $(JOBS)

docs: build      ## write the reference pages of docs/ from the binary's own Specs
	@$(PYTHON) tools/docs.py --binary $(BUILD)/millstream

setup:
	@tools/setup.sh run
setup-test:
	@tools/setup.sh test
setup-check:
	@tools/setup.sh check

clean:           ## remove everything that was built
	rm -rf build build-asan build-tsan build-fuzz build-lint
