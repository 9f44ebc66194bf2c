"""The door to native code: registration, attributes, and what is missing."""

from __future__ import annotations

import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdirect
from jaxdirect import _ffi

TARGETS = {
    "jaxdirect_hostmem_gather",
    "jaxdirect_hostmem_sample_neighbors",
    "jaxdirect_hostmem_scatter_add",
}
HAS_CUDA_MODULE = not isinstance(_ffi.module("cuda"), ImportError)


def run_python(code, tmp_path, **environment):
    """Runs `code` in a fresh process, away from the source tree."""
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", **environment}
    command = [sys.executable, "-c", code]
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=tmp_path, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_cpu_targets_are_registered():
    assert set(_ffi.targets("cpu")) >= TARGETS


def test_both_modules_have_the_same_targets():
    if not HAS_CUDA_MODULE:
        assert _ffi.targets("cuda") == ()
        assert "built without CUDA" in _ffi.missing("cuda")
    else:
        assert _ffi.targets("cuda") == _ffi.targets("cpu")


def test_cuda_module_imports_without_a_driver(tmp_path):
    if not HAS_CUDA_MODULE:
        with pytest.raises(RuntimeError, match=r"gather: jaxdirect was built without CUDA; .*pip"):
            _ffi.require("cuda", "gather")
        return
    code = "import jaxdirect._cuda as m; print(len(m.registrations()))"
    found = run_python(code, tmp_path, LD_LIBRARY_PATH="", CUDA_VISIBLE_DEVICES="")
    assert int(found) == len(_ffi.targets("cuda"))


def test_every_spelling_of_an_attribute_is_one(tmp_path):
    code = """
import itertools, numpy as np, jax, jaxdirect
from jaxdirect import _ffi
table = np.arange(12, dtype=np.float32).reshape(6, 2)
ids = np.array([5, -1], np.int32)
out = [jax.ShapeDtypeStruct((2, 2), np.float32), jax.ShapeDtypeStruct((0,), np.uint8)]
_ffi.module("cpu")
for order, blocks in itertools.product((1, True, np.int32(1), np.int64(1)), repeat=2):
    call = jax.jit(lambda t, i: _ffi.native_call("jaxdirect_hostmem_gather", out, t, i,
        order=order, max_blocks=blocks, fill_low=False, fill_high=np.uint8(0)))
    rows = np.asarray(call(table, ids)[0])
    assert (rows == [[10, 11], [0, 0]]).all(), rows
print("ok")
"""
    assert run_python(code, tmp_path) == "ok"


@pytest.mark.parametrize("first", ["6", "np.int32(6)", "np.uint8(6)", "1"])
def test_public_call_after_any_spelling(tmp_path, first):
    code = f"""
import jax.numpy as jnp, numpy as np, jaxdirect
table = jnp.arange(12, dtype=jnp.float32).reshape(6, 2)
for max_blocks in ({first}, 6, np.int32(6), np.int64(6), 1):
    rows = jaxdirect.gather(table, np.array([5, -1]), max_blocks=max_blocks)
    assert (np.asarray(rows) == [[10, 11], [0, 0]]).all()
print("ok")
"""
    assert run_python(code, tmp_path) == "ok"


@pytest.mark.parametrize("value", ["a", None, [1], 1j])
def test_other_attributes_are_refused(value):
    with pytest.raises(TypeError, match="attribute must be an integer or a float, got"):
        _ffi.attribute(value)


def test_attribute_types():
    for value in (True, np.bool_(True), 1, np.int8(1), np.uint32(1)):
        normal = _ffi.attribute(value)
        assert type(normal) is np.int64
        assert normal == 1
    assert type(_ffi.attribute(np.float32(0.5))) is np.float64


def test_native_where_there_is_none_is_an_error_with_a_remedy(monkeypatch):
    monkeypatch.setattr(_ffi, "module", lambda platform: ModuleNotFoundError(platform))
    monkeypatch.setattr(_ffi, "_composed", _ffi._composed.__wrapped__)
    table = jnp.ones((3, 2))
    with pytest.raises(RuntimeError, match=r"implementation='native'.*; install"):
        jaxdirect.gather(table, jnp.array([0]), implementation="native")


def test_reference_runs_without_native_code(monkeypatch):
    monkeypatch.setattr(_ffi, "module", lambda platform: ModuleNotFoundError(platform))
    monkeypatch.setattr(_ffi, "_composed", _ffi._composed.__wrapped__)
    table = jnp.arange(6.0).reshape(3, 2)
    for implementation in ("auto", "reference"):
        rows = jaxdirect.gather(table, jnp.array([2, 7]), implementation=implementation)
        np.testing.assert_array_equal(rows, [[4, 5], [0, 0]])


def test_unknown_platforms_point_to_the_reference():
    assert "use implementation='reference'" in _ffi.missing("tpu")


def test_a_module_that_does_not_load_is_told_from_one_not_built(monkeypatch):
    monkeypatch.setattr(_ffi, "module", lambda platform: ImportError("undefined symbol: x"))
    assert "built but does not load: undefined symbol: x" in _ffi.missing("cuda")


def test_unknown_implementation():
    with pytest.raises(ValueError, match="implementation must be one of auto, native, reference"):
        jaxdirect.gather(jnp.ones((3, 2)), jnp.array([0]), implementation="fast")


def test_export_checks_name_every_target():
    names = " ".join(map(str, jaxdirect.export_checks()))
    assert all(target in names for target in TARGETS)
    assert isinstance(jaxdirect.export_checks()[0], jax.export.DisabledSafetyCheck)
