#!/bin/sh
# Build, test and measure everything that is CUDA, in one command and under ten minutes. Needs no network: a Python with
# torch, torch_geometric, numba, pytest and hypothesis, and nvcc, g++, cmake and ninja.
#
#   benchmarks/gpu/run.sh [FOLDER]      results go to FOLDER (build/gpu-results by default)
#
# PYTHON names the interpreter, TORCH_CUDA_ARCH_LIST the architectures (that of the card by default). Exit status: 0 if
# the library was built, all tests passed and the measurements were written; what failed is in summary.json.
set -u
cd "$(dirname "$0")/../.."
export PYTHON="${PYTHON:-python3}"
BUILD="$PWD/build/gpu"
export PYTHONPATH="$PWD" GRAPHMEM_LIBRARY_DIR="$BUILD" GRAPHMEM_REQUIRE_NATIVE=1

build() {
  cmake -S csrc -B "$BUILD" -G Ninja -DCMAKE_BUILD_TYPE=Release -DGRAPHMEM_CUDA=ON \
    -DPython3_EXECUTABLE="$(command -v "$PYTHON")" && cmake --build "$BUILD" || return 1
  arch=$(echo "$TORCH_CUDA_ARCH_LIST" | sed 's/[ ;+].*//; s/\.//')
  nvcc -O3 -std=c++17 -gencode=arch=compute_"$arch",code=sm_"$arch" benchmarks/gpu/ceilings.cu -o "$BUILD/ceilings"
}

# compute-sanitizer refuses some virtual machines: the log says so, and that is no failure of ours. 99: it found an error.
sanitize() {
  command -v compute-sanitizer || { echo "compute-sanitizer is not installed"; return 0; }
  for tool in memcheck racecheck synccheck; do
    compute-sanitizer --tool "$tool" --error-exitcode 99 "$PYTHON" benchmarks/gpu/every_operator.py
    status=$?
    echo "$tool: exit status $status"
    [ $status -ne 99 ] || return 99
  done
}

case "${1:-}" in
  --build) build; exit ;;
  --sanitize) sanitize; exit ;;
esac

OUT=${1:-build/gpu-results}
mkdir -p "$OUT" "$BUILD"
OUT=$(cd "$OUT" && pwd)
rm -f "$OUT/steps.jsonl"
if [ -z "${TORCH_CUDA_ARCH_LIST:-}" ]; then
  TORCH_CUDA_ARCH_LIST=$("$PYTHON" -c 'import torch; print("%d.%d" % torch.cuda.get_device_capability())') || exit 1
  export TORCH_CUDA_ARCH_LIST
fi

failed=0
step() {  # name, seconds, command...
  name=$1 limit=$2 begin=$(date +%s)
  shift 2
  timeout "$limit" "$@" > "$OUT/$name.log" 2>&1
  status=$?
  seconds=$(($(date +%s) - begin))
  echo "$name: exit status $status, $seconds s"
  echo "{\"step\": \"$name\", \"status\": $status, \"seconds\": $seconds}" >> "$OUT/steps.jsonl"
  [ $status -eq 0 ] || failed=1
  return $status
}

if step build 200 sh benchmarks/gpu/run.sh --build; then
  step doctor 20 "$PYTHON" -m graphmem.info
  step tests 180 "$PYTHON" -m pytest -q -p no:cacheprovider tests/gpu
  step ceilings 20 "$BUILD/ceilings"
  step measure 90 "$PYTHON" benchmarks/gpu/measure.py --ceilings "$OUT/ceilings.log" --out "$OUT/gpu.json"
  step sanitizer 80 sh benchmarks/gpu/run.sh --sanitize
fi
"$PYTHON" - "$OUT" <<'PY'
import json, pathlib, sys
out = pathlib.Path(sys.argv[1])
steps = [json.loads(line) for line in (out / "steps.jsonl").read_text().splitlines()]
tails = {step["step"]: (out / f"{step['step']}.log").read_text()[-4000:] for step in steps if step["status"]}
(out / "summary.json").write_text(json.dumps({"steps": steps, "failures": tails}, indent=1) + "\n")
PY
exit $failed
