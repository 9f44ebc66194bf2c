"""How far float32 gradients of filters are from exact ones, at either precision."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conv_cases import NHWC

import jaxdirect

pytestmark = pytest.mark.usefixtures("native")
# On a GPU the default may round as TF32; ours keeps 16 bits of every value.
BOUNDS = {"default": 1e-4 if jax.default_backend() == "gpu" else 1e-6, "highest": 1e-6}


def draw(rng, values, shape):
    if values == "positive":
        return rng.uniform(0.5, 1.5, shape).astype(np.float32)
    drawn = rng.standard_normal(shape)
    if values == "spread":
        drawn *= 2.0 ** rng.integers(-20, 21, shape)
    return drawn.astype(np.float32)


@pytest.mark.parametrize("values", ["normal", "positive", "spread"])
@pytest.mark.parametrize("precision", BOUNDS)
def test_gradients_of_filters(precision, values):
    rng = np.random.default_rng(0)
    x = draw(rng, values, (4, 34, 36, 36))
    y_bar = draw(rng, values, (4, 32, 34, 20))
    exact = np.empty((3, 3, 36, 20))
    for u, v in np.ndindex(3, 3):
        moved = x[:, u : u + 32, v : v + 34].reshape(-1, 36).astype(np.float64)
        exact[u, v] = moved.T @ y_bar.reshape(-1, 20).astype(np.float64)

    @jax.jit
    def gradient(x, y_bar):
        def conv(rhs):
            return jaxdirect.conv_general_dilated(
                x, rhs, (1, 1), "VALID", dimension_numbers=NHWC, precision=precision
            )

        return jax.vjp(conv, jnp.zeros(exact.shape, x.dtype))[1](y_bar)[0]

    got = gradient(x, y_bar)
    error = np.linalg.norm(np.asarray(got, np.float64) - exact) / np.linalg.norm(exact)
    assert error < BOUNDS[precision]
    np.testing.assert_array_equal(got, gradient(x, y_bar))
