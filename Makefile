# make demo    install, train NCN and NCNC on a small graph, print a table
# make test    install with the development tools; lint, types, tests
# make bench   run the accuracy benchmarks (BENCH, hours); PEER=<checkout> adds those against the authors' code
# make wheel   build dist/graphmem-*.whl for every Linux of this glibc or a newer one (manylinux), look what is in it
# make wheel-check  install it into fresh environments, one a torch of WHEEL_TORCH and Python of WHEEL_PYTHON, and use it
# make sanitize  operator tests on a library built with the address and undefined behaviour sanitizers
# make tsan    every CPU kernel with 4 threads under the thread sanitizer
# make fuzz    malformed input for every operator, graph and reader; FUZZ_CASES, FUZZ_SEED
# make cuda-emulation  operator tests on the CUDA kernels, compiled for the CPU with both sanitizers
# make format  rewrite Python and C++ sources in the house style
# make clean   remove build outputs and caches; `make distclean` removes .venv as well
#
# Variables: PYTHON, VENV, JOBS (test processes), PYTEST_ARGS, DEMO_ARGS, GRAPHMEM_WERROR=ON (compiler warnings are
# errors), GRAPHMEM_CUDA=AUTO|ON|OFF (the CUDA operators; AUTO: where nvcc is found), TORCH_CUDA_ARCH_LIST.

PYTHON ?= python3
VENV ?= .venv
JOBS ?= 2
PYTEST_ARGS ?=
DEMO_ARGS ?=
BENCH ?= benchmarks/planetoid.py
FUZZ_CASES ?= 14000
FUZZ_SEED ?= 0
PEER ?=
WHEEL_TORCH ?= torch==2.10.0 torch==2.11.0 torch==2.12.1 torch==2.13.0 torch
WHEEL_PYTHON ?= $(PYTHON)
GRAPHMEM_WERROR ?= OFF
GRAPHMEM_CUDA ?= AUTO

BIN := $(VENV)/bin
# One constraints file for everything. Without build isolation the operators are built against the torch of $(VENV).
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
DEFINES := SKBUILD_CMAKE_DEFINE="GRAPHMEM_WERROR=$(GRAPHMEM_WERROR);GRAPHMEM_CUDA=$(GRAPHMEM_CUDA)"
INSTALL := $(DEFINES) $(PIP) install -c constraints.txt --no-build-isolation
CXX_SOURCES := $(wildcard csrc/*.cpp csrc/*/*.cpp csrc/*/*.cu csrc/*/*.h)
TSAN_SOURCES := $(wildcard tests/tsan/*.cpp tests/tsan/*.h tests/tsan/torch/csrc/stable/*.h)
TEST_SOURCES := $(TSAN_SOURCES) $(wildcard tests/cuda_emulation/*.cpp tests/cuda_emulation/*.h tests/cuda_emulation/*/*.h)
# Python sources are used in place (editable install); only what is compiled or copied asks for a new installation.
INSTALLED := pyproject.toml constraints.txt csrc/CMakeLists.txt csrc/cuda.cmake $(CXX_SOURCES) $(wildcard datasets/*.toml) \
  graphmem/__init__.py

# The installed package is the one that runs, whatever the caller's environment says, and it must have its library.
unexport PYTHONPATH
export GRAPHMEM_REQUIRE_NATIVE := 1
# Two libraries with threads of their own share the cores: waiting threads must sleep.
export OMP_WAIT_POLICY ?= passive

.PHONY: demo test lint types unit doctor bench wheel wheel-check sanitize cuda-emulation tsan fuzz format clean distclean
.DELETE_ON_ERROR:

demo: $(VENV)/.package-$(GRAPHMEM_WERROR)
	$(BIN)/python benchmarks/demo.py $(DEMO_ARGS)

test: $(VENV)/.dev-$(GRAPHMEM_WERROR)
	@$(MAKE) --no-print-directory doctor lint types unit
	@$(MAKE) --no-print-directory doctor

doctor: $(VENV)/.dev-$(GRAPHMEM_WERROR)
	@$(BIN)/graphmem doctor > $(VENV)/doctor.txt || { cat $(VENV)/doctor.txt; exit 1; }
	@grep -i '^ *library' $(VENV)/doctor.txt

lint: $(VENV)/.dev-$(GRAPHMEM_WERROR)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-cache
	$(BIN)/clang-format --dry-run --Werror $(CXX_SOURCES) $(TEST_SOURCES)

types: $(VENV)/.dev-$(GRAPHMEM_WERROR)
	$(BIN)/mypy

unit: $(VENV)/.dev-$(GRAPHMEM_WERROR)
	$(BIN)/pytest -n $(JOBS) $(PYTEST_ARGS)

bench: $(VENV)/.dev-$(GRAPHMEM_WERROR)
	@for script in $(BENCH); do echo "$$script"; $(BIN)/python $$script || exit 1; done
	@if [ -n "$(PEER)" ]; then \
	  for script in parity_ncn speed_ncn; do $(BIN)/python benchmarks/$$script.py --peer "$(PEER)" || exit 1; done; fi
	@if [ -f benchmarks/report.py ]; then $(BIN)/python benchmarks/report.py; fi

# auditwheel finds the oldest glibc that the libraries run with and names the wheel after it; torch's are the user's.
wheel: $(VENV)/.dev-$(GRAPHMEM_WERROR)
	rm -rf dist build/wheel
	$(DEFINES) $(PIP) wheel --no-deps --no-build-isolation -w build/wheel .
ifeq ($(shell uname -s),Linux)
	PATH="$(abspath $(BIN)):$$PATH" $(BIN)/auditwheel repair --exclude 'libtorch*.so' --exclude libc10.so -w dist build/wheel/*.whl
else
	mkdir -p dist && mv build/wheel/*.whl dist
endif
	GRAPHMEM_WHEEL=$$(ls dist/*.whl) $(BIN)/pytest -q tests/test_packaging.py -k built_wheel
	@ls dist

wheel-check:
	@if [ ! -f dist/*.whl ]; then $(MAKE) --no-print-directory wheel; fi
	$(PYTHON) tests/wheel/check.py --wheel dist/*.whl --python $(WHEEL_PYTHON) --torch $(WHEEL_TORCH) \
	  --out benchmarks/results/wheel_check.json

# Leaks are Python's own at its exit. torch.compile starts compilers that a preloaded sanitizer breaks, and the tests of
# the fallback start a process without the library. (1: build folder, 2: options of the build, 3: tests.)
define sanitized
$(BIN)/cmake -S csrc -B $(1) -G Ninja -DCMAKE_MAKE_PROGRAM=$(abspath $(BIN))/ninja -DCMAKE_BUILD_TYPE=RelWithDebInfo \
  -DGRAPHMEM_SANITIZE=address,undefined -DGRAPHMEM_CUDA=OFF -DPython3_EXECUTABLE=$(abspath $(BIN))/python $(2)
$(BIN)/cmake --build $(1)
LD_PRELOAD="$$($(CXX) -print-file-name=libasan.so) $$($(CXX) -print-file-name=libubsan.so)" \
  ASAN_OPTIONS=detect_leaks=0,detect_stack_use_after_return=0 GRAPHMEM_LIBRARY_DIR=$(abspath $(1)) \
  GRAPHMEM_HYPOTHESIS_PROFILE=$${GRAPHMEM_HYPOTHESIS_PROFILE-quick} \
  $(BIN)/pytest -q -n 0 $(3) -k "not compile" $(PYTEST_ARGS)
endef

OPERATOR_TESTS := tests/ops $(addprefix --ignore tests/ops/test_,fallback.py capability.py cuda_emulation.py)

sanitize: $(VENV)/.dev-$(GRAPHMEM_WERROR)
	$(call sanitized,build/sanitize,,$(OPERATOR_TESTS))

cuda-emulation: export GRAPHMEM_GPU_TESTS_ON = cpu
cuda-emulation: $(VENV)/.dev-$(GRAPHMEM_WERROR)
	$(call sanitized,build/emulation-sanitize,-DGRAPHMEM_EMULATE_CUDA=ON,$(OPERATOR_TESTS) tests/gpu/test_operators.py)

# torch's pool is not built with the sanitizer, which would miss or invent races there: tests/tsan has a stand-in for
# what the kernels use of torch, on std::thread. The last line proves that a race is seen.
TSAN_OBJECTS := $(patsubst %.cpp,build/tsan/%.o,$(wildcard csrc/cpu/*.cpp tests/tsan/*.cpp))
build/tsan/%.o: %.cpp $(CXX_SOURCES) $(TSAN_SOURCES)
	@mkdir -p $(@D)
	$(CXX) -std=c++20 -O1 -g -Wall -Wextra -ffp-contract=off -fsanitize=thread -DGRAPHMEM_NO_CLONES -DGRAPHMEM_WORTH_WAKING=0 -Itests/tsan -Icsrc \
	  -isystem $$(dirname $$($(BIN)/python -c "import importlib.util as u; print(u.find_spec('torch').origin)"))/include \
	  -c $< -o $@

build/tsan/harness: $(TSAN_OBJECTS)
	$(CXX) -fsanitize=thread -pthread $^ -o $@

tsan: $(VENV)/.tools
	@$(MAKE) --no-print-directory build/tsan/harness
	build/tsan/harness
	@if build/tsan/harness --race 2> build/tsan/race.txt; then echo "the sanitizer missed a race"; exit 1; fi
	@grep -q "data race" build/tsan/race.txt && echo "a deliberate race is seen"

fuzz: $(VENV)/.dev-$(GRAPHMEM_WERROR)
	$(BIN)/python tests/fuzz/fuzz.py --cases $(FUZZ_CASES) --seed $(FUZZ_SEED) --oracle

format: $(VENV)/.dev-$(GRAPHMEM_WERROR)
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $(CXX_SOURCES) $(TEST_SOURCES)

clean:
	rm -rf build dist .pytest_cache .hypothesis .mypy_cache .ruff_cache .import_linter_cache
	find graphmem tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

distclean: clean
	rm -rf $(VENV)

$(VENV)/.created:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "graphmem needs Python >= 3.10; set PYTHON=...")'
	$(PYTHON) -m venv $(VENV)
	@touch $@

# torch first: the package is built against it. pip before 23 does not know editable installs of this kind.
$(VENV)/.tools: $(VENV)/.created constraints.txt
	@echo "installing torch and the build tools into $(VENV)"
	$(PIP) install "pip>=23"
	$(PIP) install -c constraints.txt torch scikit-build-core cmake ninja
	@touch $@

$(VENV)/.package-$(GRAPHMEM_WERROR): $(VENV)/.tools $(INSTALLED)
	@echo "building the operators and installing graphmem into $(VENV)"
	$(INSTALL) -e .
	@touch $@

$(VENV)/.dev-$(GRAPHMEM_WERROR): $(VENV)/.tools $(INSTALLED)
	@echo "building the operators and installing graphmem with its development tools into $(VENV)"
	$(INSTALL) -e '.[dev]'
	@touch $@ $(VENV)/.package-$(GRAPHMEM_WERROR)
