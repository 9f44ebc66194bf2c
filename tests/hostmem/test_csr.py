"""CSRGraph: what it takes, what it refuses, and how it passes through transformations."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdirect

INDPTR = np.array([0, 2, 2, 5], np.int32)
INDICES = np.array([1, 2, 0, 1, 2], np.int32)


def test_sizes():
    graph = jaxdirect.CSRGraph(INDPTR, INDICES)
    assert (graph.num_nodes, graph.num_edges) == (3, 5)
    assert graph.validate() is graph


def test_no_nodes():
    graph = jaxdirect.CSRGraph(np.zeros(1, np.int32), np.zeros(0, np.int32)).validate()
    assert (graph.num_nodes, graph.num_edges) == (0, 0)


@pytest.mark.parametrize("make", [np.asarray, jnp.asarray, jaxdirect.unified])
@pytest.mark.parametrize("dtype", [np.int32, np.int64])
def test_accepts_host_device_and_unified_arrays(make, dtype):
    with jax.enable_x64(True):
        arrays = make(INDPTR.astype(dtype)), make(INDICES.astype(dtype))
    graph = jaxdirect.CSRGraph(*arrays).validate()
    np.testing.assert_array_equal(graph.indptr, INDPTR)
    np.testing.assert_array_equal(graph.indices, INDICES)
    assert jaxdirect.is_unified(graph.indices) == (make is jaxdirect.unified)
    expected = np.int32 if make is np.asarray else dtype
    assert graph.indptr.dtype == graph.indices.dtype == expected


def test_int64_numpy_stays_wide_where_int32_would_wrap():
    indices = np.array([1, 2**32 + 1], np.int64)
    graph = jaxdirect.CSRGraph(np.array([0, 1, 2]), indices)
    assert graph.indptr.dtype == np.int32
    assert graph.indices.dtype == np.int64
    np.testing.assert_array_equal(graph.indices, indices)


def test_int64_numpy_stays_wide_with_x64():
    with jax.enable_x64(True):
        graph = jaxdirect.CSRGraph(INDPTR.astype(np.int64), INDICES.astype(np.int64))
    assert graph.indptr.dtype == graph.indices.dtype == np.int64


def test_non_contiguous_numpy():
    graph = jaxdirect.CSRGraph(np.repeat(INDPTR, 2)[::2], np.repeat(INDICES, 2)[::2])
    np.testing.assert_array_equal(graph.indices, INDICES)


def test_fields_are_frozen():
    graph = jaxdirect.CSRGraph(INDPTR, INDICES)
    with pytest.raises(AttributeError):
        graph.indptr = INDPTR  # pyright: ignore


def test_is_a_pytree_with_named_leaves():
    graph = jaxdirect.CSRGraph(INDPTR, INDICES)
    paths = [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(graph)]
    assert paths == [".indptr", ".indices"]
    shapes = jax.tree.map(lambda x: x.shape, graph)  # placeholders are not checked
    assert shapes.indptr == (4,)


def test_passes_through_jit_and_can_be_made_inside():
    graph = jaxdirect.CSRGraph(INDPTR, INDICES)
    doubled = jax.jit(lambda g: jax.tree.map(lambda x: 2 * x, g))(graph)
    np.testing.assert_array_equal(doubled.indices, 2 * INDICES)
    made = jax.jit(jaxdirect.CSRGraph)(INDPTR, INDICES)
    np.testing.assert_array_equal(made.indptr, INDPTR)


def test_concrete_arrays_are_checked_inside_jit():
    bad = jnp.asarray(INDPTR + 1)
    with pytest.raises(ValueError, match="indptr must start with 0, got 1"):
        jax.jit(lambda indices: jaxdirect.CSRGraph(bad, indices))(INDICES)


@pytest.mark.parametrize("make", [np.asarray, jnp.asarray, jaxdirect.unified])
@pytest.mark.parametrize(
    ("indptr", "indices", "error", "message"),
    [
        (INDPTR[None], INDICES, ValueError, r"indptr must have rank 1, got shape \(1, 4\)"),
        (INDPTR, INDICES[:, None], ValueError, r"indices must have rank 1, got shape \(5, 1\)"),
        (INDPTR.astype(np.float32), INDICES, TypeError, "indptr must be int32 or int64, got float"),
        (
            INDPTR,
            INDICES.astype(np.uint8),
            TypeError,
            r"must be .* got uint8; cast with indices",
        ),
        (INDPTR + 1, INDICES, ValueError, "indptr must start with 0, got 1"),
        (INDPTR, INDICES[:4], ValueError, "end with the number of indices, 4, got 5"),
    ],
)
def test_bad_arrays(make, indptr, indices, error, message):
    with pytest.raises(error, match=message):
        jaxdirect.CSRGraph(make(indptr), make(indices))


def test_empty_indptr():
    with pytest.raises(ValueError, match="indptr must have num_nodes \\+ 1 elements, got none"):
        jaxdirect.CSRGraph(np.zeros(0, np.int32), INDICES)


def test_big_endian():
    with pytest.raises(TypeError, match="indptr must be int32 or int64, got >i4"):
        jaxdirect.CSRGraph(INDPTR.astype(">i4"), INDICES)


def test_lists_are_refused():
    with pytest.raises(TypeError, match="indices must be a NumPy or JAX array, got list"):
        jaxdirect.CSRGraph(INDPTR, [0, 1])  # pyright: ignore


def test_int32_indptr_cannot_count_past_int32():
    big = jax.ShapeDtypeStruct((2**31,), jnp.int32)
    small = jax.ShapeDtypeStruct((2,), jnp.int32)
    with pytest.raises(ValueError, match="indptr must be int64 for 2147483648 edges, got int32"):
        jax.eval_shape(jaxdirect.CSRGraph, small, big)


@pytest.mark.parametrize(
    ("indptr", "indices", "message"),
    [
        ([0, 3, 2, 5], INDICES, "indptr must never decrease, got 2 after 3 at position 2"),
        ([0, 3, 4, 2, 5], INDICES, "indptr must never decrease, got 2 after 4 at position 3"),
        (INDPTR, [1, 2, 3, 1, -1], r"nodes in \[0, 3\), got 3 at position 2"),
        (INDPTR, [1, 2, 0, 1, -1], r"nodes in \[0, 3\), got -1 at position 4"),
    ],
)
@pytest.mark.parametrize("chunk", [1 << 24, 2])
def test_validate_names_the_first_bad_position(indptr, indices, message, chunk, monkeypatch):
    monkeypatch.setattr("jaxdirect.hostmem.csr._CHUNK", chunk)
    for make in (np.asarray, jaxdirect.unified):
        arrays = (make(np.asarray(x, np.int32)) for x in (indptr, indices))
        graph = jaxdirect.CSRGraph(*arrays)
        with pytest.raises(ValueError, match=message):
            graph.validate()


def test_validate_inside_jit():
    with pytest.raises(TypeError, match="validate needs values, got a tracer"):
        jax.jit(lambda g: g.validate())(jaxdirect.CSRGraph(INDPTR, INDICES))


def test_repr_shows_no_data():
    graph = jaxdirect.CSRGraph(np.array([0, 2, 3], np.int32), np.array([0, 1, 0], np.int32))
    assert repr(graph) == "CSRGraph(indptr=int32[3], indices=int32[3])"
    leaves, structure = jax.tree.flatten(graph)
    assert repr(jax.tree.unflatten(structure, [None] * len(leaves))) == (
        "CSRGraph(indptr=None, indices=None)"
    )
