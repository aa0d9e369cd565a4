# salient: one non-recursive makefile. `make help` lists the targets.
#   knobs: V=1 (show commands)  CUDA=1 (link a CUDA libtorch, with LIBTORCH)  LIBTORCH=DIR (a libtorch tree instead of Debian's)
#          VARIANT=release|asan|tsan  WERROR=1  BUILD=DIR  LAZY=0 (link libtorch directly)
.DEFAULT_GOAL := all
SHELL := /bin/bash
V ?= 0
CUDA ?= 0
LIBTORCH ?=
LAZY ?= $(if $(filter release-0-x86_64,$(VARIANT)-$(CUDA)-$(shell uname -m)),1,0)
VARIANT ?= release
WERROR ?= 0
BUILD ?= build
Q := $(if $(filter 1,$(V)),,@)
ifneq ($(wildcard /usr/lib/ccache/gcc),)
CCACHE := ccache
export CCACHE_BASEDIR := $(CURDIR)
export CCACHE_NOHASHDIR := 1
endif
CC := $(CCACHE) gcc
CXX := $(CCACHE) g++
O := $(BUILD)/$(VARIANT)$(if $(filter 1,$(CUDA)),-cuda)

# ---- dependencies ----------------------------------------------------------------------------------------------------
# Every pkg-config module the product links, one table. docker/packages-*.txt hold the Debian names.
PKGS := libmicrohttpd jansson libcrypto sqlite3 libarchive libjpeg libpng zlib libdeflate \
        libavformat libavcodec libavutil libswscale libcurl libpq libseccomp
PKG_CFLAGS = $(shell pkg-config --cflags $(PKGS) 2>/dev/null)
PKG_LIBS = $(shell pkg-config --libs $(PKGS) 2>/dev/null)
OPENCV_CFLAGS := -isystem /usr/include/opencv4
OPENCV_LIBS := -lopencv_video -lopencv_imgproc -lopencv_core

ifeq ($(LIBTORCH),)
TORCH_CFLAGS := -isystem /usr/include/torch/csrc/api/include
TORCH_STD := c++17
TORCH_LIBS := -ltorch -ltorch_cpu -lc10 -lopenblas
else
TORCH_STD := c++20
TORCH_CFLAGS := -isystem $(LIBTORCH)/include -isystem $(LIBTORCH)/include/torch/csrc/api/include
TORCH_LIBS := -L$(LIBTORCH)/lib -Wl,-rpath,$(LIBTORCH)/lib -Wl,--no-as-needed -ltorch -ltorch_cpu -lc10 $(if $(filter 1,$(CUDA)),-ltorch_cuda -lc10_cuda)
endif

# CUDA kernels: machine code for every generation from Turing to Hopper, and PTX for what comes after.
NVCC ?= $(or $(shell command -v nvcc 2>/dev/null),/usr/local/cuda/bin/nvcc)
GPU_ARCHS := 75 80 86 89 90
GPU_PTX := 90
GENCODE := $(foreach a,$(GPU_ARCHS),-gencode arch=compute_$(a),code=sm_$(a)) -gencode arch=compute_$(GPU_PTX),code=compute_$(GPU_PTX)
NVCCFLAGS = -std=c++17 -O3 -I. -D_GNU_SOURCE -diag-suppress 1675 -Xcompiler -Wall,-fvisibility=hidden $(if $(filter 1,$(WERROR)),-Werror all-warnings) $(GENCODE)

WARN := -Wall -Wextra -Wpedantic -Wshadow -Wvla -Wformat=2 -Wno-format-truncation $(if $(filter 1,$(WERROR)),-Werror)
CWARN := $(WARN) -Wstrict-prototypes -Wmissing-prototypes
OPT_release := -O2 -g
OPT_asan := -O1 -g -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer
OPT_tsan := -O1 -g -fsanitize=thread
OPT := $(OPT_$(VARIANT))
CPPFLAGS := -I. -D_GNU_SOURCE -MMD -MP
CFLAGS = -std=c11 $(OPT) $(CWARN) -fvisibility=hidden -fno-math-errno -ffp-contract=off $(PKG_CFLAGS)
CXXFLAGS = -std=$(TORCH_STD) $(OPT) $(WARN) -fvisibility=hidden $(TORCH_CFLAGS) $(OPENCV_CFLAGS)
LDLIBS = $(TORCH_LIBS) $(OPENCV_LIBS) $(PKG_LIBS) -lstdc++ -lpthread -lm

# ---- sources ---------------------------------------------------------------------------------------------------------
CORE_C := $(wildcard core/*/*.c)
CORE_CC := $(wildcard core/*/*.cc)
API_C := $(wildcard api/*.c)
SERVER_C := $(filter-out server/main.c,$(wildcard server/*.c))
LIB_OBJ := $(patsubst %,$(O)/%.o,$(CORE_C) $(CORE_CC) $(API_C) $(SERVER_C))
UNIT_C := $(wildcard tests/unit/*/test_*.c)
UNIT_BIN := $(patsubst tests/unit/%.c,$(O)/tests/unit/%,$(UNIT_C))
C_FILES := $(shell find core api server tests -name '*.c' -o -name '*.h' -o -name '*.cc' -o -name '*.cu' -o -name '*.cuh' 2>/dev/null)

include $(wildcard build.d/*.mk)

# ---- building --------------------------------------------------------------------------------------------------------
.PHONY: all models run demo check-cuda bench-check test test-unit test-e2e test-long asan tsan bench fmt fmt-check lint check-layers compdb install clean help deps test-deps
all: deps ## build build/salient
	$(Q)$(MAKE) --no-print-directory $(BUILD)/salient

$(BUILD)/salient: $(O)/salient
	$(Q)ln -sf $(VARIANT)$(if $(filter 1,$(CUDA)),-cuda)/salient $@

# With LAZY the program loads libtorch only for commands that compute with it (core/tensor/lazy/lazy.c).
TORCH_OBJ := $(patsubst %,$(O)/%.o,$(wildcard core/tensor/*_torch.cc))
LAZY_OBJ := $(if $(filter 1,$(LAZY)),$(O)/core/tensor/lazy/lazy.c.o)
$(O)/salient: $(O)/server/main.c.o $(LAZY_OBJ) $(O)/libsalient.a
	@echo "  LD   $@"
	$(Q)$(CXX) $(OPT) -o $@ $^ $(if $(LAZY_OBJ),$(filter-out $(TORCH_LIBS),$(LDLIBS)) -ldl,$(LDLIBS))

$(O)/core/tensor/lazy/names.def: $(TORCH_OBJ)
	@mkdir -p $(@D)
	$(Q)nm -g --defined-only $^ | awk '$$2 == "T" && $$3 !~ /^_Z/ {print "NAME(" $$3 ")"}' | sort -u >$@

$(O)/core/tensor/lazy/torch.so: $(O)/core/tensor/lazy/table.c.o $(TORCH_OBJ) $(O)/core/base/err.c.o
	@echo "  LD   $@"
	$(Q)$(CXX) $(OPT) -shared -Wl,-z,defs -Wl,--strip-debug -o $@ $^ $(TORCH_LIBS) -lstdc++ -lpthread -lm

$(O)/core/tensor/lazy/table.c.o: $(O)/core/tensor/lazy/names.def
$(O)/core/tensor/lazy/lazy.c.o: $(O)/core/tensor/lazy/names.def $(O)/core/tensor/lazy/torch.so
$(O)/core/tensor/lazy/%.c.o: CFLAGS += -I$(O)/core/tensor/lazy -Wa,-I$(O)/core/tensor/lazy
# The Makefile as a prerequisite: objects from before this flag would not link.
$(TORCH_OBJ) $(O)/core/tensor/lazy/table.c.o $(O)/core/base/err.c.o: OPT += -fPIC
$(TORCH_OBJ) $(O)/core/base/err.c.o: Makefile

$(O)/libsalient.a: $(LIB_OBJ)
	@echo "  AR   $@"
	$(Q)rm -f $@ && ar rcs $@ $^

# Kernels are loops over floats: worth vectorising, and fused multiply-adds are welcome.
$(O)/core/kernel/%.c.o: CFLAGS += -O3 -ffp-contract=fast
CFLAGS_core_flow_vote := -O3 -ffp-contract=fast
CFLAGS_core_flow_warp := -O3 -ffp-contract=fast
CFLAGS_core_flow_gfilter := -O3 -ffp-contract=fast

$(O)/%.c.o: %.c
	@mkdir -p $(@D)
	@echo "  CC   $<"
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) $(CFLAGS_$(subst /,_,$*)) -c $< -o $@

$(O)/%.cc.o: %.cc
	@mkdir -p $(@D)
	@echo "  CXX  $<"
	$(Q)$(CXX) $(CPPFLAGS) $(CXXFLAGS) -c $< -o $@

CORE_CU := $(wildcard core/*/cuda/*.cu)
$(BUILD)/cuda/%.cu.o: %.cu $(wildcard core/kernel/*.h core/kernel/cuda/*.cuh)
	@mkdir -p $(@D)
	@echo "  NVCC $<"
	$(Q)$(NVCC) $(NVCCFLAGS) -c $< -o $@

$(O)/tests/unit/%: $(O)/tests/unit/%.c.o $(O)/libsalient.a
	@echo "  LD   $@"
	$(Q)$(CXX) $(OPT) -o $@ $^ $(LDLIBS) -lcmocka

.SECONDARY:

$(O)/tests/bench/%: $(O)/tests/bench/%.c.o $(O)/libsalient.a
	@echo "  LD   $@"
	$(Q)$(CXX) $(OPT) -o $@ $^ $(LDLIBS)

-include $(LIB_OBJ:.o=.d) $(O)/server/main.c.d $(patsubst %,%.c.d,$(UNIT_BIN))

models: all ## train the default models from DATA=folder into models/ (hours)
	$(Q)models/train.sh "$(or $(DATA),$(error say DATA=folder))" models

# ---- running ---------------------------------------------------------------------------------------------------------
run: all ## start the service on 127.0.0.1:8080
	$(BUILD)/salient serve --data $(BUILD)/data

demo: all ## build, start the service, POST the bundled clip, save maps and an overlay
	$(Q)tests/demo.sh

# ---- testing ---------------------------------------------------------------------------------------------------------
PY := $(BUILD)/venv/bin/python
test: ## unit and end-to-end tests (under 15 minutes warm)
	$(Q)$(MAKE) --no-print-directory test-unit
	$(Q)$(MAKE) --no-print-directory test-e2e

test-unit: deps test-deps ## C unit tests (cmocka), optionally MODULE=base
	$(Q)$(MAKE) --no-print-directory run-unit
.PHONY: run-unit
run-unit: $(if $(MODULE),$(filter $(O)/tests/unit/$(MODULE)/%,$(UNIT_BIN)),$(UNIT_BIN))
	$(Q)tests/run-unit.sh $(sort $^)

PYTEST = SALIENT=$(BUILD)/salient $(PY) -m pytest -q -p no:cacheprovider --durations=5
test-e2e: all test-deps ## pytest against the real binary, optionally T=path
	$(Q)$(PYTEST) -m "not long" $(if $(T),$(T),tests/golden)
	$(Q)$(if $(T),,$(PYTEST) -m "not long" tests/e2e)

test-long: all test-deps ## everything, with the long runs
	$(Q)$(PYTEST) tests/golden
	$(Q)$(PYTEST) tests/e2e

check-cuda: ## compile the CUDA kernels and look for each of them in every architecture's code; needs nvcc, no GPU
	$(Q)NVCC="$(NVCC)" GPU_ARCHS="$(GPU_ARCHS)" GPU_PTX="$(GPU_PTX)" PIP="$(wildcard $(BUILD)/venv/bin/pip)" tests/gpu/check-build.sh "$(patsubst %,$(BUILD)/cuda/%.o,$(CORE_CU))"

# ---- measuring -------------------------------------------------------------------------------------------------------
BENCH_PY ?= $(BUILD)/bench-venv/bin/python
BENCH = SALIENT=$(BUILD)/salient OMP_WAIT_POLICY=passive $(BENCH_PY) tests/bench/bench.py --tools $(O)/tests/bench $(if $(PART),--only $(PART))
$(BUILD)/bench-venv/bin/python: tests/bench/requirements.txt
	python3 -m venv $(BUILD)/bench-venv
	$(BUILD)/bench-venv/bin/pip install -q --disable-pip-version-check -r $< && touch $@

bench: all $(O)/tests/bench/bench_run $(O)/tests/bench/bench_net $(BENCH_PY) ## every measurement in one table, optionally PART=r50,lite,eval,service
	$(Q)$(BENCH)

bench-check: all $(O)/tests/bench/bench_run $(O)/tests/bench/bench_net $(BENCH_PY) ## the same, and fail when a ratio is more than 10% below tests/bench/ratios.json
	$(Q)$(BENCH) --check

asan: ## unit tests under address and undefined-behaviour sanitizers
	$(Q)$(MAKE) --no-print-directory test-unit VARIANT=asan

tsan: ## unit tests under the thread sanitizer
	$(Q)$(MAKE) --no-print-directory test-unit VARIANT=tsan

# ---- habits ----------------------------------------------------------------------------------------------------------
fmt: ## format every C, C++ and CUDA file
	$(Q)clang-format -i $(C_FILES)

fmt-check: deps ## fail when a file is not formatted
	$(Q)clang-format --dry-run -Werror $(C_FILES)

check-layers: ## fail when an include points up, or a third-party header has a second owner
	$(Q)tests/check-layers.sh

lint: deps fmt-check check-layers ## clang-tidy and cppcheck
	$(Q)tests/lint.sh "$(CPPFLAGS) -std=c11 $(PKG_CFLAGS)"

compdb: ## compile_commands.json for clangd
	$(Q)tests/compdb.sh "$(CPPFLAGS) $(CFLAGS)" "$(CPPFLAGS) $(CXXFLAGS)" > compile_commands.json

deps: ## install the Debian packages the build needs, when something is missing
	$(Q)docker/deps.sh build

test-deps: ## install what the tests need (Debian packages, a virtualenv)
	$(Q)docker/deps.sh test
	$(Q)tests/venv.sh $(BUILD)/venv

PREFIX ?= /usr/local
install: all ## install the binary and models below PREFIX
	install -D -m 755 $(O)/salient $(DESTDIR)$(PREFIX)/bin/salient
	for f in models/*/*/model.*; do install -D -m 644 "$$f" "$(DESTDIR)$(PREFIX)/share/salient/$$f"; done

clean: ## remove build products
	rm -rf $(BUILD)

help: ## this list
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
