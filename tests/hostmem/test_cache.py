"""`cache_rows`: the same numbers as the table alone, from two places."""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.sharding import NamedSharding, PartitionSpec

import jaxdirect

IMPLEMENTATIONS = ["native", "reference"]


def make_table(num_rows, row=(4,), dtype="float32"):
    array = jaxdirect.empty((num_rows, *row), dtype)
    array[...] = np.arange(array.size).reshape(array.shape) % 100
    return array


def expected(array, ids):
    rows = np.zeros((*ids.shape, *array.shape[1:]), array.dtype)
    inside = (ids >= 0) & (ids < len(array))
    rows[inside] = array[ids[inside]]
    return rows


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("order", ["given", "sorted", "auto"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int64", "uint8", "bool"])
@pytest.mark.parametrize("row", [(), (3,), (32,), (5, 7)], ids=str)
def test_same_bits_as_the_table(rng, row, dtype, order, implementation):
    array = make_table(211, row, dtype)
    cached = jaxdirect.cache_rows(jaxdirect.unified(array), rng.choice(211, 50, replace=False))
    ids = rng.integers(-3, 215, (13, 11))
    rows = jaxdirect.gather(cached, ids, order=order, implementation=implementation)
    assert rows.dtype == array.dtype
    np.testing.assert_array_equal(np.asarray(rows), expected(array, ids))


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_cached_rows_come_from_the_cache(implementation):
    array = make_table(20)
    cached = jaxdirect.cache_rows(jaxdirect.unified(array), [3, 17, 4])
    marked = dataclasses.replace(cached, rows=-1 - jnp.arange(12.0).reshape(3, 4))
    rows = jaxdirect.gather(marked, np.array([17, 5, 3]), implementation=implementation)
    np.testing.assert_array_equal(rows[0], [-9, -10, -11, -12])
    np.testing.assert_array_equal(rows[1], array[5])
    np.testing.assert_array_equal(rows[2], [-1, -2, -3, -4])


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_slots_outside_the_cache_lead_to_the_table(implementation):
    array = make_table(6)
    cached = jaxdirect.cache_rows(jaxdirect.unified(array), [1, 2])
    broken = dataclasses.replace(cached, slots=jnp.array([2, 0, 1, 2**31 - 1, -(2**31), -1]))
    rows = jaxdirect.gather(broken, np.arange(6), implementation=implementation)
    np.testing.assert_array_equal(rows, array)


@settings(max_examples=30, deadline=None)
@given(
    num_rows=st.integers(0, 200),
    share=st.floats(0, 1),
    count=st.integers(0, 300),
    seed=st.integers(0, 2**20),
)
def test_any_size(num_rows, share, count, seed):
    rng = np.random.default_rng(seed)
    array = make_table(num_rows)
    hot = rng.choice(num_rows, int(share * num_rows), replace=False) if num_rows else []
    cached = jaxdirect.cache_rows(jaxdirect.unified(array), hot)
    ids = rng.integers(-2, num_rows + 2, count)
    np.testing.assert_array_equal(jaxdirect.gather(cached, ids), expected(array, ids))


def test_hit_rate():
    cached = jaxdirect.cache_rows(jaxdirect.unified(make_table(10)), [0, 1, 1, 9])
    assert cached.rows.shape == (3, 4)
    assert float(cached.hit_rate(np.array([0, 9, 5, 5, -1, 10]))) == 0.5
    assert float(jax.jit(lambda c, i: c.hit_rate(i))(cached, jnp.array([-1]))) == 0
    empty = jaxdirect.cache_rows(jaxdirect.unified(make_table(0)), [])
    assert float(empty.hit_rate(np.array([0, 1]))) == 0


def test_repr_shows_no_data():
    cached = jaxdirect.cache_rows(jaxdirect.unified(make_table(10)), [3])
    parts = "table=float32[10, 4], rows=float32[1, 4], slots=int32[10]"
    assert repr(cached) == f"CachedTable({parts})"


def test_transformations(rng):
    array = make_table(64)
    cached = jaxdirect.cache_rows(jaxdirect.unified(array), np.arange(0, 64, 3))
    ids = rng.integers(0, 64, (5, 7))

    def loss(weight, cached, ids):
        def step(total, index):
            return total + (jaxdirect.gather(cached, index) @ weight).sum(), None

        return jax.lax.scan(jax.checkpoint(step), 0.0, ids)[0]

    got = jax.jit(jax.grad(loss))(jnp.ones(4), cached, jnp.asarray(ids))
    np.testing.assert_allclose(got, array[ids].sum((0, 1)), rtol=1e-6)
    mapped = jax.vmap(jaxdirect.gather, in_axes=(None, 0))(cached, jnp.asarray(ids))
    np.testing.assert_array_equal(mapped, array[ids])


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_a_split_batch_stays_split(implementation):
    devices = jax.devices() if len(jax.devices()) > 1 else jax.devices("cpu")
    mesh = jax.make_mesh((2,), ("x",), devices=devices[:2])
    array = make_table(64)
    whole = NamedSharding(mesh, PartitionSpec())
    cached = jaxdirect.cache_rows(jaxdirect.unified(array, device=whole), np.arange(9))
    assert cached.rows.sharding.is_fully_replicated
    assert cached.slots.sharding.is_fully_replicated
    ids = jax.device_put(np.arange(-4, 20), NamedSharding(mesh, PartitionSpec("x")))
    gather = jax.jit(functools.partial(jaxdirect.gather, implementation=implementation))
    assert "all-gather" not in gather.lower(cached, ids).compile().as_text()
    rows = gather(cached, ids)
    assert rows.sharding.spec[0] == "x"
    np.testing.assert_array_equal(rows, expected(array, np.arange(-4, 20)))


def test_a_split_table_is_refused():
    devices = jax.devices() if len(jax.devices()) > 1 else jax.devices("cpu")
    mesh = jax.make_mesh((2,), ("x",), devices=devices[:2])
    split = NamedSharding(mesh, PartitionSpec("x"))
    table = jaxdirect.unified(make_table(64), device=split)
    with pytest.raises(ValueError, match="cache_rows: table must be on one device or replicated"):
        jaxdirect.cache_rows(table, [1])


@pytest.mark.parametrize(
    ("indices", "error", "message"),
    [
        ([0.5], TypeError, "indices must be integers, got float64; for a mask"),
        ([True, False], TypeError, "indices must be integers, got bool; for a mask"),
        ([[1]], ValueError, r"indices must have rank 1, got shape \(1, 1\)"),
        ([1, 10], ValueError, r"indices must be in \[0, 10\), got 1 to 10"),
        ([-1], ValueError, r"indices must be in \[0, 10\), got -1 to -1"),
    ],
)
def test_bad_indices(indices, error, message):
    table = jaxdirect.unified(make_table(10))
    with pytest.raises(error, match=f"cache_rows: {message}"):
        jaxdirect.cache_rows(table, indices)


def test_traced_arguments_are_refused():
    table = jaxdirect.unified(make_table(10))
    with pytest.raises(TypeError, match="cache_rows: table and indices must be concrete"):
        jax.jit(lambda t: jaxdirect.cache_rows(t, [1]).rows)(table)


def test_gradients_are_refused():
    cached = jaxdirect.cache_rows(jaxdirect.unified(make_table(10)), [1])

    def loss(rows):
        return jaxdirect.gather(dataclasses.replace(cached, rows=rows), np.arange(3)).sum()

    with pytest.raises(TypeError, match="cached table cannot be differentiated"):
        jax.grad(loss)(cached.rows)


def test_batched_tables_are_refused():
    cached = jaxdirect.cache_rows(jaxdirect.unified(make_table(10)), [1])

    def pick(rows):
        return jaxdirect.gather(dataclasses.replace(cached, rows=rows), np.arange(3))

    with pytest.raises(ValueError, match=r"gather: vmap over table\.rows is not supported"):
        jax.vmap(pick)(cached.rows[None])


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"rows": jnp.zeros((2, 5))}, "table.rows must hold rows of the table"),
        ({"rows": jnp.zeros((2, 4), jnp.int32)}, "table.rows must hold rows of the table"),
        ({"slots": jnp.zeros(9, jnp.int32)}, r"table.slots must be int32\[10\]"),
        ({"slots": jnp.zeros(10)}, r"table.slots must be int32\[10\]"),
    ],
)
def test_parts_that_do_not_belong_together(parts, message):
    cached = jaxdirect.cache_rows(jaxdirect.unified(make_table(10)), [1])
    with pytest.raises(ValueError, match=f"gather: {message}"):
        jaxdirect.gather(dataclasses.replace(cached, **parts), np.arange(3))


def test_a_freed_table_is_refused():
    cached = jaxdirect.cache_rows(jaxdirect.unified(make_table(10)), [1])
    cached.rows.delete()
    with pytest.raises(ValueError, match=r"gather: table\.rows was freed"):
        jaxdirect.gather(cached, np.arange(3))
