"""What PyG's layers gave (scripts/build_pyg_outputs.py), and the comparison with ours."""

from __future__ import annotations

import dataclasses
import functools
import json
import math
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

FILE = Path(__file__).parent / "pyg_outputs.npz"
NODES, RELATIONS = 9, 4


@dataclasses.dataclass(frozen=True)
class Case:
    """A layer's options and arrays."""

    name: str
    options: dict
    arrays: dict

    def group(self, prefix: str) -> dict[str, np.ndarray]:
        """The arrays whose names begin with `prefix`, by what follows."""
        prefix += "/"
        found = self.arrays.items()
        return {name[len(prefix) :]: value for name, value in found if name.startswith(prefix)}

    def __repr__(self) -> str:
        return self.name


@functools.cache
def _file() -> tuple[dict, dict]:
    with np.load(FILE) as file:
        vectors = {name: file[name] for name in ("float32", "int32")}
        about = json.loads(str(file["index"]))
    arrays = {
        name: vectors[kind][offset : offset + math.prod(shape)].reshape(shape)
        for name, (kind, offset, shape) in about["arrays"].items()
    }
    return about, arrays


def about() -> dict:
    return _file()[0]


def cases(model: str) -> list[Case]:
    arrays = _file()[1]
    found = []
    for name, options in about()["cases"].items():
        if name.startswith(f"{model}/"):
            own = {k[len(name) + 1 :]: v for k, v in arrays.items() if k.startswith(f"{name}/")}
            found.append(Case(name.split("/")[1], options, own))
    return found


def check_parity(conv, call, case, tolerance):
    """Outputs and all gradients of `sum(output * cotangent)` against PyG's.

    `call(conv, inputs)` gives the outputs by name.
    """
    conv.load_pyg(case.group("state"))
    definition, params, rest = nnx.split(conv, nnx.Param, ...)
    inputs = jax.tree.map(jnp.asarray, case.group("input"))
    cotangents = case.group("cotangent")

    def loss(params, inputs):
        outputs = call(nnx.merge(definition, params, rest), inputs)
        return sum((outputs[name] * cotangents[name]).sum() for name in cotangents), outputs

    gradient = jax.jit(jax.grad(loss, argnums=(0, 1), has_aux=True))
    (of_params, of_inputs), outputs = gradient(params, inputs)
    expected = case.group("output")
    compare(outputs, {name: expected[name] for name in outputs}, tolerance)
    assert set(cotangents) <= set(outputs) <= set(expected)
    compare(of_inputs, case.group("input_gradient"), tolerance)
    expected = conv.layer.from_pyg(case.group("gradient"))
    compare(nnx.to_pure_dict(of_params), expected, tolerance)
    return outputs


def compare(got, expected, tolerance):
    """Every array within `tolerance` of the largest number in it."""
    assert jax.tree.structure(got) == jax.tree.structure(expected)

    def one(path, ours, theirs):
        assert ours.shape == theirs.shape, path
        scale = max(1.0, float(np.abs(theirs).max(initial=0)))
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance * scale, err_msg=str(path))

    jax.tree_util.tree_map_with_path(one, got, expected)
