"""The convolution layers: Flax's numbers and gradients, parameter for parameter."""

from __future__ import annotations

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx

import jaxdirect
import jaxdirect.nn
import jaxdirect.nn.linen

CASES = {
    "same": ((2, 7, 6, 4), (3, 3), {}),
    "valid, strided": ((2, 8, 7, 4), (3, 2), {"padding": "VALID", "strides": (2, 1)}),
    "pairs": ((2, 6, 6, 4), (3, 3), {"padding": ((2, 0), (1, 3))}),
    "circular, dilated": ((2, 7, 6, 4), (3, 3), {"padding": "CIRCULAR", "kernel_dilation": 2}),
    "reflect": ((2, 7, 6, 4), (3, 3), {"padding": "REFLECT", "use_bias": False}),
    "causal, groups": ((2, 9, 4), 3, {"padding": "CAUSAL", "feature_group_count": 2}),
    "depthwise, batches": ((2, 3, 6, 6, 4), (3, 3), {"feature_group_count": 4}),
    "no batch": ((7, 6, 4), (3, 3), {}),
    "transposed": ((1, 4, 5, 4), (3, 3), {"input_dilation": 2, "padding": ((2, 1), (1, 2))}),
    "bfloat16": ((2, 6, 6, 4), (3, 3), {"dtype": jnp.bfloat16}),
    "three dimensions": ((1, 4, 4, 4, 4), (2, 2, 2), {}),
}


def loss(out):
    return jnp.sin(out.astype(jnp.float32)).sum()


def of_nnx(cls, x, kernel_size, arguments):
    """The layer as a function of its parameters, and these."""
    definition, parameters = nnx.split(cls(4, 8, kernel_size, **arguments, rngs=nnx.Rngs(0)))
    return (lambda parameters, x: nnx.merge(definition, parameters)(x)), parameters


def of_linen(cls, x, kernel_size, arguments):
    layer = cls(8, kernel_size, **arguments)
    return layer.apply, jax.jit(layer.init)(jax.random.key(0), x)


LAYERS = {
    "nnx": (of_nnx, nnx.Conv, jaxdirect.nn.Conv),
    "linen": (of_linen, linen.Conv, jaxdirect.nn.linen.Conv),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("flax", LAYERS)
def test_equals_flax(flax, name):
    build, theirs, ours = LAYERS[flax]
    shape, *rest = CASES[name]
    x = jnp.asarray(np.random.default_rng(0).standard_normal(shape, np.float32))
    kernel_size, arguments = rest
    plugged = {**arguments, "conv_general_dilated": jaxdirect.conv_general_dilated}
    layers = [
        build(theirs, x, kernel_size, arguments),
        build(theirs, x, kernel_size, plugged),
        build(ours, x, kernel_size, arguments),
    ]
    parameters = layers[0][1]
    jax.tree.map(np.testing.assert_array_equal, layers[2][1], parameters)

    @jax.jit
    def values_and_gradients(parameters, x):
        def one(apply):
            bars = jax.grad(lambda *operands: loss(apply(*operands)), (0, 1))(parameters, x)
            return jax.tree.leaves((apply(parameters, x), bars))

        return [one(apply) for apply, _ in layers]

    want, *others = values_and_gradients(parameters, x)
    tolerance = 5e-2 if "dtype" in arguments else 1e-4
    for got in others:
        for one, other in zip(got, want, strict=True):
            assert (one.shape, one.dtype) == (other.shape, other.dtype)
            wide = (np.asarray(array, np.float32) for array in (one, other))
            np.testing.assert_allclose(*wide, rtol=tolerance, atol=tolerance)


def test_constructors_are_flaxs():
    assert inspect.signature(jaxdirect.nn.Conv) == inspect.signature(nnx.Conv)
    layer = jaxdirect.nn.Conv(4, 8, (3, 3), rngs=nnx.Rngs(0))
    assert layer.conv_general_dilated is jaxdirect.conv_general_dilated
    assert jaxdirect.nn.linen.Conv(8, (3, 3)).conv_general_dilated is jaxdirect.conv_general_dilated
    layer = jaxdirect.nn.Conv(
        4, 8, (3, 3), conv_general_dilated=jax.lax.conv_general_dilated, rngs=nnx.Rngs(0)
    )
    assert layer.conv_general_dilated is jax.lax.conv_general_dilated


def test_parameters_of_flax_fit():
    theirs, ours = (
        cls(4, 8, (3, 3), rngs=nnx.Rngs(seed))
        for seed, cls in enumerate((nnx.Conv, jaxdirect.nn.Conv))
    )
    nnx.update(ours, nnx.state(theirs))
    x = jnp.ones((1, 5, 5, 4))
    np.testing.assert_allclose(ours(x), theirs(x), rtol=1e-5, atol=1e-6)
