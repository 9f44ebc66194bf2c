"""The custom-op example builds against the installed headers and computes what it says."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

import jaxdirect

EXAMPLE = Path(__file__).parents[2] / "examples" / "custom_op"


@pytest.fixture(scope="module")
def weighted_sum(tmp_path_factory):
    # The environment's own tools come first, whether or not it is activated.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    cmake, ninja = (shutil.which(tool, path=path) for tool in ("cmake", "ninja"))
    if not (cmake and ninja):
        pytest.fail("the example needs cmake and ninja; pip install cmake ninja")
    build = tmp_path_factory.mktemp("custom_op")
    configure = [cmake, "-S", EXAMPLE, "-B", build, "-G", "Ninja", f"-DCMAKE_MAKE_PROGRAM={ninja}"]
    for command in (
        [*configure, f"-DPython_EXECUTABLE={sys.executable}"],
        [cmake, "--build", build],
    ):
        done = subprocess.run(command, capture_output=True, text=True, cwd=build)
        assert done.returncode == 0, done.stdout + done.stderr
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(build))
        patch.syspath_prepend(str(EXAMPLE))
        import weighted_sum as example  # pyright: ignore[reportMissingImports]

        platform = "CUDA" if jax.default_backend() == "gpu" else "cpu"
        assert platform in example.register()
        yield example.weighted_sum


def arguments(rng, *batch):
    table = rng.normal(size=(50, 7)).astype(np.float32)
    ids = rng.integers(-1, 51, (*batch, 5)).astype(np.int32)
    return table, ids, rng.normal(size=ids.shape).astype(np.float32)


def expected(table, ids, weights):
    valid = ((ids >= 0) & (ids < len(table)))[..., None]
    rows = np.where(valid, table[np.clip(ids, 0, len(table) - 1)], 0)
    return (rows * weights[..., None]).sum(-2)


@pytest.mark.parametrize("transform", [lambda f: f, jax.jit], ids=["eager", "jit"])
@pytest.mark.parametrize("place", [jaxdirect.unified, jax.device_put], ids=["host", "device"])
@pytest.mark.parametrize("batch", [0, 1, 200])
def test_numbers(weighted_sum, rng, transform, place, batch):
    table, ids, weights = arguments(rng, batch)
    out = transform(weighted_sum)(place(table), ids, weights)
    np.testing.assert_allclose(out, expected(table, ids, weights), rtol=1e-5, atol=1e-5)


def test_vmap_over_picks(weighted_sum, rng):
    table, ids, weights = arguments(rng, 4, 9)
    over_both = jax.vmap(weighted_sum, in_axes=(None, 0, 0))
    out = jax.jit(over_both)(jaxdirect.unified(table), ids, weights)
    np.testing.assert_allclose(out, expected(table, ids, weights), rtol=1e-5, atol=1e-5)
    over_weights = jax.vmap(weighted_sum, in_axes=(None, None, 0))
    out = over_weights(jaxdirect.unified(table), ids[0], weights)
    np.testing.assert_allclose(out, expected(table, ids[:1], weights), rtol=1e-5, atol=1e-5)


def test_vmap_over_the_table_is_refused(weighted_sum, rng):
    table, ids, weights = arguments(rng, 9)
    with pytest.raises(ValueError, match="table must not be batched"):
        jax.vmap(weighted_sum, in_axes=(0, None, None))(table[None], ids, weights)


def test_handler_checks_dtypes(weighted_sum, rng):
    table, ids, weights = arguments(rng, 9)
    with pytest.raises(jax.errors.JaxRuntimeError, match="ids must have dtype int32"):
        weighted_sum(table, ids.astype(np.float32), weights).block_until_ready()
