#!/usr/bin/env bash
# Build, GPU tests and a GPU benchmark in one call, on a GPU machine without network.
#
#   scripts/gpu.sh [--family NAME] [--sanitize] [--no-tests] [--no-benchmark] [--limit SECONDS]
#                  [arguments of the family's benchmark]
#
# --family            hostmem, relational, conv or offload: its harness and its benchmark, and of
#                     the tests only its own and its layers'; default: all tests, hostmem's benchmark
# --limit             of each step
# PYTHON              interpreter that has jax, scikit-build-core, nanobind, pytest; default python3
# JAXDIRECT_WHEEL     a wheel to install instead of building
# JAXDIRECT_SITE      a folder that holds an installed package, instead
# JAXDIRECT_HARNESSES a folder that holds harnesses built elsewhere for CUDA (ffi/tests)
# OUT                 folder for logs and benchmark results; default the current one
set -uo pipefail

cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
out=$(realpath "${OUT:-.}")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
family="" sanitize=0 tests=1 benchmark=1 limit=3600 status=0

while (($#)); do
  case $1 in
    --family) family=$2; shift ;;
    --sanitize) sanitize=1 ;;
    --no-tests) tests=0 ;;
    --no-benchmark) benchmark=0 ;;
    --limit) limit=$2; shift ;;
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

harnesses=${JAXDIRECT_HARNESSES:-$work/harness}
build_harnesses() {
  cmake -S ffi/tests -B "$harnesses" -DJAXDIRECT_HARNESS_CUDA=ON && cmake --build "$harnesses" -j
}

# All checks, then a few of them under each tool: racecheck is slow.
check() {
  local tool
  timeout "$limit" "$harnesses/$1_harness" || return
  for tool in memcheck racecheck; do
    timeout "$limit" compute-sanitizer --error-exitcode 3 --tool "$tool" "$harnesses/$1_harness" \
      quick || return
  done
}

site=${JAXDIRECT_SITE:-$work/site}
[[ -n ${JAXDIRECT_SITE:-} ]] || step build build
((status == 0)) || exit 1
PYTHONPATH=$(realpath "$site")${PYTHONPATH:+:$PYTHONPATH}
export PYTHONPATH XLA_PYTHON_CLIENT_PREALLOCATE=false PYTHONUNBUFFERED=1
# -P keeps the checkout, which has no compiled modules, off the import path.
step info "$python" -P -c 'import jaxdirect; jaxdirect.show_config()'
if ((tests)); then
  export JAXDIRECT_REQUIRE_GPU=1
  wanted=()
  [[ -z $family ]] || wanted=("tests/$family" tests/nn)
  if ! "$python" -c 'import pybind11' 2>/dev/null; then
    echo "no pybind11: examples/custom_op is not tested"
    wanted+=(--ignore tests/examples/test_custom_op.py)
  fi
  step tests timeout "$limit" "$python" -P -m pytest -m "gpu or not gpu" --durations=10 \
    "${wanted[@]}"
fi
if ((sanitize)); then
  [[ -n ${JAXDIRECT_HARNESSES:-} ]] || step harnesses build_harnesses
  for one in ${family:-hostmem relational conv offload}; do
    step "$one-harness" check "$one"
  done
fi
if ((benchmark)); then
  name=${family:-hostmem}
  [[ " $* " == *" --resume "* ]] || set -- --output "$out/$name.json" "$@"
  step benchmark timeout "$limit" "$python" "benchmarks/$name.py" "$@"
fi
exit "$status"
