"""What only rgat_conv and hgt_conv have."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from layers import GRAPHS, arguments, hgt, rgat

from jaxdirect.relational import hgt_conv, rgat_conv

EDGES = GRAPHS["plain"]
GRAPH = EDGES.plan()
RGAT = [jnp.asarray(a, jnp.float32) for a in arguments("rgat", EDGES, 6, 8, 2)]
HGT = [jnp.asarray(a, jnp.float32) for a in arguments("hgt", EDGES, 6, 8, 2)]


def close(got, want):
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=2e-5)


def test_heads_may_be_mixed(rng):
    x, weight, *_ = RGAT
    att = [rng.normal(size=(4, 8, 2)) for _ in range(2)]
    narrow = [jnp.asarray(a, jnp.float32) for a in att]
    out = rgat_conv(GRAPH, x, weight, *narrow, precision="highest")
    close(out, rgat(EDGES, np.asarray(x), np.asarray(weight), *att))


def test_bias_and_slope():
    out = rgat_conv(GRAPH, *RGAT, bias=jnp.arange(8.0), negative_slope=0.5, precision="highest")
    close(out, rgat(EDGES, *map(np.asarray, RGAT), slope=0.5) + np.arange(8.0))


def test_large_scores_do_not_overflow():
    x, weight, att_src, att_dst = RGAT
    out = rgat_conv(GRAPH, x, weight, 1e4 * att_src, 1e4 * att_dst)
    assert np.isfinite(out).all()


@pytest.mark.parametrize("reorder", [True, False])
def test_biases_and_reordering(reorder, rng):
    biases = {f"{name}_bias": rng.normal(size=(3, 8)) for name in "kqv"}
    narrow = {name: jnp.asarray(bias, jnp.float32) for name, bias in biases.items()}
    out = hgt_conv(GRAPH, *HGT, **narrow, reorder=reorder, precision="highest")
    close(out, hgt(EDGES, *map(np.asarray, HGT), **biases))


@pytest.mark.parametrize(
    ("heads", "mixed", "implementation"),
    [
        (2, False, "native"),
        (1, False, "native"),
        (2, True, "native"),
        (1, True, "native"),
        (2, True, "reference"),
    ],
)
def test_rgat_in_written_order(heads, mixed, implementation, rng):
    """Without reordering the numbers and the gradients are the same."""
    x, weight = RGAT[:2]
    shape = (4, 8, heads) if mixed else (4, heads, 8 // heads)
    att = [jnp.asarray(rng.normal(size=shape), jnp.float32) for _ in range(2)]
    cotangent = jnp.asarray(rng.normal(size=(50, 8)), jnp.float32)

    def pulled_back(reorder):
        def layer(*inputs):
            options = {"reorder": reorder, "heads": heads, "precision": "highest"}
            return rgat_conv(GRAPH, *inputs, **options, implementation=implementation)

        out, pull = jax.vjp(layer, x, weight, *att)
        return out, *pull(cotangent)

    for got, want in zip(pulled_back(False), pulled_back(True), strict=True):
        np.testing.assert_allclose(got, want, rtol=0, atol=1e-5 * np.abs(want).max())


@pytest.mark.parametrize(
    ("index", "value", "words"),
    [
        (0, jnp.ones((49, 6)), r"x must be \[50, d\]"),
        (1, jnp.ones((3, 6, 8)), r"weight must be \[4, 6, heads \* head_dim\]"),
        (2, jnp.ones((4, 2, 3)), r"att_src must be \[4, heads, head_dim\] or \[4, 8, heads\]"),
        (3, jnp.ones((4, 1, 8)), r"att_dst must be \[4, 2, 4\]"),
    ],
)
def test_rgat_errors(index, value, words):
    changed = [*RGAT]
    changed[index] = value
    with pytest.raises(ValueError, match=words):
        rgat_conv(GRAPH, *changed)


@pytest.mark.parametrize(
    ("index", "value", "words"),
    [
        (1, jnp.ones((2, 6, 8)), r"k_weight must be \[3, 6, 8\]"),
        (4, jnp.ones((4, 2, 4, 3)), r"a_rel must be \[4, 2, d, d\]|m_rel|a_rel must be \[4, 2, 4"),
        (6, jnp.ones((3, 2)), r"p_rel must be \[4, heads\]"),
    ],
)
def test_hgt_errors(index, value, words):
    changed = [*HGT]
    changed[index] = value
    with pytest.raises(ValueError, match=words):
        hgt_conv(GRAPH, *changed)


def test_graphs_that_lack_a_part():
    with pytest.raises(ValueError, match="build it with attention=True"):
        rgat_conv(EDGES.plan(attention=False), *RGAT)
    from relgraphs import small

    graph = small(num_relations=4)
    with pytest.raises(ValueError, match="build it with ntype="):
        hgt_conv(graph, jnp.ones((4, 6)), *HGT[1:])
    with pytest.raises(ValueError, match="negative_slope must not be negative"):
        rgat_conv(GRAPH, *RGAT, negative_slope=-1.0)
