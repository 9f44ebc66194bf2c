#!/usr/bin/env bash
# Build, GPU tests and GPU benchmarks in one call, on a GPU machine without network.
#
#   scripts/gpu.sh [--sanitize] [--no-tests] [--no-benchmarks] [arguments of benchmarks/hostmem.py]
#
# PYTHON           interpreter that has jax, scikit-build-core, nanobind, pytest; default python3
# JAXDIRECT_WHEEL  a wheel to install instead of building
# OUT              folder for logs and benchmark results; default the current one
set -uo pipefail

cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
out=$(realpath "${OUT:-.}")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
sanitize=0 tests=1 benchmarks=1 status=0

while (($#)); do
  case $1 in
    --sanitize) sanitize=1 ;;
    --no-tests) tests=0 ;;
    --no-benchmarks) benchmarks=0 ;;
    *) break ;;
  esac
  shift
done

# Runs one step with its output on screen and in $OUT/<name>.log; goes on after a failure.
step() {
  local name=$1
  shift
  printf '\n== %s (%d s)\n' "$name" "$SECONDS"
  "$@" 2>&1 | tee "$out/$name.log" || status=1
}

build() {
  JAXDIRECT_CUDA=${JAXDIRECT_CUDA:-ON} "$python" -m pip install --no-index --no-build-isolation \
    --no-deps --target "$work/site" "${JAXDIRECT_WHEEL:-.}"
}

harness() {
  cmake -S ffi/tests -B "$work/harness" -DJAXDIRECT_HARNESS_CUDA=ON &&
    cmake --build "$work/harness" -j || return
  local check=(compute-sanitizer --error-exitcode 3)
  local family
  for family in hostmem relational; do
    "${check[@]}" --tool memcheck "$work/harness/${family}_harness" &&
      "${check[@]}" --tool racecheck "$work/harness/${family}_harness" quick || return
  done
}

step build build
((status == 0)) || exit 1
export PYTHONPATH=$work/site${PYTHONPATH:+:$PYTHONPATH}
export XLA_PYTHON_CLIENT_PREALLOCATE=false PYTHONUNBUFFERED=1
# -P keeps the checkout, which has no compiled modules, off the import path.
step info "$python" -P -c 'import jaxdirect; jaxdirect.show_config()'
if ((tests)); then
  export JAXDIRECT_REQUIRE_GPU=1
  ignored=()
  if ! "$python" -c 'import pybind11' 2>/dev/null; then
    echo "no pybind11: examples/custom_op is not tested"
    ignored=(--ignore tests/examples/test_custom_op.py)
  fi
  step tests "$python" -P -m pytest -m "gpu or not gpu" --durations=10 "${ignored[@]}"
fi
((sanitize == 0)) || step sanitize harness
if ((benchmarks)); then
  step benchmarks "$python" benchmarks/hostmem.py --output "$out/hostmem.json" "$@"
fi
exit "$status"
