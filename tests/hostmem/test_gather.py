"""`gather`: parity with NumPy, transformations, determinism, every message."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.test_util import check_grads

import jaxdirect

DTYPES = [
    *("float16", "bfloat16", "float32", "float64", "complex64", "bool"),
    *("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    *("float8_e4m3fn", "float8_e5m2", "float8_e4m3b11fnuz", "float8_e4m3fnuz"),
    *("float8_e5m2fnuz", "float8_e3m4", "float8_e4m3", "float8_e8m0fnu"),
]
ROWS = [(), (1,), (3,), (5,), (16,), (7, 3), (33,), (100,), (301,)]
IMPLEMENTATIONS = ["native", "reference"]


def make_table(rng, num_rows, row=(), dtype="float32", offset=0):
    """Random bytes as a page-aligned table, `offset` times 16 bytes past the page.

    Bytes below 100 make no NaNs: XLA:CPU may quieten those of bfloat16 on their way out.
    """
    dtype = np.dtype(dtype)
    size = num_rows * int(np.prod(row)) * dtype.itemsize
    raw = jaxdirect.empty(size + 16 * offset, np.uint8)
    raw[:] = rng.integers(0, 2 if dtype.kind == "b" else 100, raw.size)
    return raw[16 * offset :].view(dtype).reshape(num_rows, *row)


def expected(table, ids, fill=0):
    ids = np.asarray(ids)
    rows = np.full((*ids.shape, *table.shape[1:]), fill, table.dtype)
    inside = (ids >= 0) & (ids < len(table))
    rows[inside] = table[ids[inside]]
    return rows


def assert_same_bits(got, want):
    got = np.asarray(got)
    assert got.dtype == want.dtype
    assert got.shape == want.shape
    assert got.tobytes() == want.tobytes()


@pytest.mark.parametrize("row", ROWS, ids=str)
@pytest.mark.parametrize("dtype", DTYPES)
def test_same_bits_as_numpy(rng, dtype, row):
    table = make_table(rng, 97, row, dtype)
    ids = rng.integers(-3, 100, 61)
    want = expected(table, ids, fill=1)
    for order in ("given", "sorted", "auto"):
        rows = jaxdirect.gather(jaxdirect.unified(table), ids, fill_value=1, order=order)
        assert_same_bits(rows, want)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("place", ["host", "device"])
@pytest.mark.parametrize("row_bytes", [1, 2, 4, 8, 12, 16, 20, 32, 48, 64, 100, 128, 400, 1172])
def test_row_lengths_and_offsets(rng, implementation, place, row_bytes):
    for offset in (0, 1, 3):
        table = make_table(rng, 203, (row_bytes,), "uint8", offset)
        ids = rng.integers(-1, 204, (7, 9)).astype(np.int32)
        operand = jaxdirect.unified(table) if place == "host" else jax.device_put(table)
        rows = jaxdirect.gather(operand, ids, implementation=implementation, order="sorted")
        assert_same_bits(rows, expected(table, ids))


@settings(max_examples=40, deadline=None)
@given(
    num_rows=st.integers(1, 300),
    row=st.lists(st.integers(0, 9), max_size=3),
    count=st.integers(0, 200),
    seed=st.integers(0, 2**32 - 1),
    order=st.sampled_from(["given", "sorted", "auto"]),
)
def test_any_shape(num_rows, row, count, seed, order):
    rng = np.random.default_rng(seed)
    table = make_table(rng, num_rows, tuple(row), "int16")
    ids = rng.integers(-2, num_rows + 2, count)
    rows = jaxdirect.gather(jaxdirect.unified(table), ids, order=order)
    assert_same_bits(rows, expected(table, ids))


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_empty_ids_empty_table_scalar_id(implementation):
    gather = functools.partial(jaxdirect.gather, implementation=implementation, fill_value=7)
    table = jaxdirect.unified(np.ones((3, 2), np.float32))
    assert gather(table, []).shape == (0, 2)
    assert gather(table, np.zeros((4, 0), np.int32)).shape == (4, 0, 2)
    np.testing.assert_array_equal(gather(table, 2), [1, 1])
    nothing = jaxdirect.unified(np.zeros((0, 2), np.float32))
    np.testing.assert_array_equal(gather(nothing, [0, -1]), np.full((2, 2), 7))
    assert gather(jaxdirect.unified(np.ones((3, 0), np.int8)), [0, 1, 5]).shape == (3, 0)


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "uint32", "int64", "uint64"])
def test_index_dtypes(rng, dtype):
    table = make_table(rng, 200, (3,))
    ids = rng.integers(0, 120, 50).astype(dtype)
    assert_same_bits(jaxdirect.gather(jaxdirect.unified(table), ids), expected(table, ids))


def test_wide_indices_do_not_wrap(rng):
    table = make_table(rng, 10, (2,))
    unified = jaxdirect.unified(table)
    far = np.array([2**32 + 1, -(2**32) + 1, 3], np.int64)
    assert_same_bits(jaxdirect.gather(unified, far), expected(table, far))
    high = np.array([2**32 - 1, 2**31, 4], np.uint32)
    assert_same_bits(jaxdirect.gather(unified, high), expected(table, high.astype(np.int64)))
    assert_same_bits(
        jaxdirect.gather(unified, jnp.asarray(high)), expected(table, high.astype(np.int64))
    )
    with jax.enable_x64(True):
        wide = jnp.asarray(far)
    assert wide.dtype == jnp.int64
    assert_same_bits(jaxdirect.gather(unified, wide), expected(table, far))


def test_64_bit_tables_keep_their_width_under_jit(rng):
    assert not jax.config.jax_enable_x64
    for dtype in ("int64", "float64", "uint64"):
        table = make_table(rng, 20, (3,), dtype)
        unified = jaxdirect.unified(table)
        assert unified.dtype == table.dtype
        ids = np.array([3, -1])
        assert_same_bits(jax.jit(jaxdirect.gather)(unified, ids), expected(table, ids))
        assert_same_bits(jax.jit(jaxdirect.gather)(unified, [3, -1]), expected(table, ids))


def test_max_blocks_changes_nothing(rng):
    table = make_table(rng, 1000, (130,))
    ids = rng.integers(0, 1000, 4000)
    got = jaxdirect.gather(jaxdirect.unified(table), ids, max_blocks=2)
    assert_same_bits(got, expected(table, ids))


def test_vmap_over_indices(rng):
    table = make_table(rng, 50, (4,))
    unified = jaxdirect.unified(table)
    ids = rng.integers(-1, 51, (3, 5, 2))
    rows = jax.vmap(jax.vmap(lambda i: jaxdirect.gather(unified, i)))(ids)
    assert_same_bits(rows, expected(table, ids))
    rows = jax.jit(jax.vmap(jaxdirect.gather, in_axes=(None, 1), out_axes=1))(unified, ids)
    assert_same_bits(rows, expected(table, ids))


def test_scan_keeps_the_table_whole(rng):
    table = make_table(rng, 50, (4,))
    ids = rng.integers(0, 50, (6, 8))

    @jax.jit
    def total(unified, ids):
        def step(carry, index):
            return carry + jaxdirect.gather(unified, index).astype(jnp.float32), None

        return jax.lax.scan(step, jnp.zeros((8, 4)), ids)[0]

    table = (np.arange(200) % 7).astype(np.float32).reshape(50, 4)
    np.testing.assert_allclose(total(jaxdirect.unified(table), ids), table[ids].sum(0))


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_gradient_of_a_device_table(rng, implementation, dtype):
    table = jnp.asarray(rng.normal(size=(40, 7)), dtype)
    ids = rng.integers(-2, 42, (5, 60))
    weight = jnp.asarray(rng.normal(size=(5, 60, 7)), dtype)

    def loss(table):
        rows = jaxdirect.gather(table, ids, implementation=implementation)
        return (rows * weight).astype(jnp.float32).sum()

    got = jax.jit(jax.grad(loss))(table)
    want = np.zeros(table.shape)
    inside = (ids >= 0) & (ids < 40)
    np.add.at(want, ids[inside], np.asarray(weight, np.float64)[inside])
    tolerance = 1e-5 if dtype == "float32" else 2e-2
    assert got.dtype == table.dtype
    np.testing.assert_allclose(np.asarray(got, np.float64), want, rtol=tolerance, atol=tolerance)
    again = jax.jit(jax.grad(loss))(table)
    assert np.asarray(again).tobytes() == np.asarray(got).tobytes()


def test_second_derivatives(rng):
    table = jnp.asarray(rng.normal(size=(6, 3)), jnp.float32)
    ids = np.array([0, 5, 5, -1, 2])
    check_grads(
        lambda t: jnp.sin(jaxdirect.gather(jnp.asarray(t), ids)), (table,), order=2, modes=["rev"]
    )


def test_gradient_of_a_consumer_with_checkpoint_and_scan(rng):
    table = rng.normal(size=(30, 4)).astype(np.float32)
    ids = rng.integers(0, 30, (3, 5))

    def loss(weight, table, ids):
        def step(carry, index):
            return carry + (jaxdirect.gather(table, index) @ weight).sum(), None

        return jax.lax.scan(jax.checkpoint(step), 0.0, ids)[0]

    got = jax.jit(jax.grad(loss))(jnp.ones(4), jaxdirect.unified(table), ids)
    np.testing.assert_allclose(got, table[ids].sum((0, 1)), rtol=1e-5)


def test_explain_says_what_auto_does():
    table = jaxdirect.unified(np.zeros((1000, 4), np.float32))
    assert "as given" in jaxdirect.explain_gather(table, 10)
    assert "grouped" in jaxdirect.explain_gather(table, 10, order="sorted")
    large = jax.ShapeDtypeStruct((2**27, 32), jnp.float32)
    sentence = jaxdirect.explain_gather(large, 4_000_000)
    assert "sorted" in sentence
    assert "16.0 GiB" in sentence
    short = jaxdirect.explain_gather(large, 200_000)
    assert "grouped by ranges of 32768 rows if about 16384 of them or more" in short


# Messages: the op, the argument, what was expected, what was got, and a remedy.


def refuses(error, message):
    return pytest.raises(error, match=f"(?s){message}")


@pytest.fixture
def table():
    return jaxdirect.unified(np.ones((4, 3), np.float32))


def test_refuses_bad_indices(table):
    with refuses(TypeError, "gather: indices must be an integer array, got float32; cast"):
        jaxdirect.gather(table, np.ones(3, np.float32))
    with refuses(TypeError, "gather: indices must be an integer array, got bool"):
        jaxdirect.gather(table, np.ones(3, bool))


def test_refuses_bad_tables(table):
    with refuses(TypeError, "gather: table must be a jax.Array, got ndarray; .*unified"):
        jaxdirect.gather(np.ones((3, 2)), [0])
    with refuses(ValueError, "gather: table must have at least one axis, got a scalar"):
        jaxdirect.gather(jnp.float32(3), [0])
    with refuses(TypeError, "dtype must have whole bytes, got int4"):
        jaxdirect.gather(jnp.zeros((4, 2), "int4"), [0])
    with refuses(TypeError, "has no plain memory layout"):
        jaxdirect.gather(jax.random.split(jax.random.key(0), 3), [0])
    table.delete()
    with refuses(ValueError, "gather: table was freed"):
        jaxdirect.gather(table, [0])


def test_refuses_bad_options(table):
    with refuses(ValueError, "order must be one of given, sorted, auto, got 'random'"):
        jaxdirect.gather(table, [0], order="random")
    with refuses(ValueError, "max_blocks must be None or at least 1, got 0"):
        jaxdirect.gather(table, [0], max_blocks=0)
    with refuses(TypeError, "fill_value must be a plain number"):
        jaxdirect.gather(table, [0], fill_value=np.ones(3))
    with refuses(
        ValueError, "gather: implementation must be one of auto, native, reference, got 'fast'"
    ):
        jaxdirect.gather(table, [0], implementation="fast")


def test_refuses_a_table_that_jit_would_copy(table):
    with refuses(ValueError, "closes over.*pass it as an argument"):
        jax.jit(lambda ids: jaxdirect.gather(table, ids))(jnp.arange(2))


def test_refuses_the_gradient_of_a_unified_table(table):
    with refuses(TypeError, "a unified table cannot be differentiated.*device"):
        jax.grad(lambda t: jaxdirect.gather(t, [0]).sum())(table)
    with refuses(TypeError, "a unified table cannot be differentiated"):
        jax.jit(jax.grad(lambda t: jaxdirect.gather(t, [0]).sum()))(table)


def test_refuses_a_batched_table(table):
    with refuses(ValueError, "gather: vmap over table is not supported.*in_axes=None"):
        jax.vmap(lambda t: jaxdirect.gather(t, jnp.arange(2)))(table)
