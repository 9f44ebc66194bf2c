"""`unified`, `empty`, `is_unified`: sharing, placement, every message."""

from __future__ import annotations

import gc

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

import jaxdirect

DTYPES = ["float16", "bfloat16", "float32", "float64", "int64", "uint8", "bool", "float8_e4m3fn"]


def refuses(error, message):
    return pytest.raises(error, match=f"(?s){message}")


def pages(shape, dtype="float32"):
    array = jaxdirect.empty(shape, dtype)
    array[...] = np.arange(array.size).reshape(shape) % 2
    return array


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(5,), (3, 4), (2, 3, 4), (0, 3), (3, 0), 7])
def test_empty_is_page_aligned(shape, dtype):
    array = jaxdirect.empty(shape, dtype)
    assert array.shape == ((shape,) if isinstance(shape, int) else shape)
    assert array.dtype == np.dtype(dtype)
    assert array.size == 0 or array.ctypes.data % 4096 == 0
    assert array.flags.c_contiguous
    assert array.flags.writeable


@pytest.mark.parametrize("dtype", DTYPES)
def test_shares_the_pages(dtype):
    array = pages((100, 3), dtype)
    table = jaxdirect.unified(array)
    assert table.dtype == array.dtype
    assert table.shape == array.shape
    assert table.sharding.memory_kind == "pinned_host"
    assert table.unsafe_buffer_pointer() == array.ctypes.data
    np.testing.assert_array_equal(np.asarray(table), array)


def test_later_host_writes_are_read():
    array = pages((10, 4))
    table = jaxdirect.unified(array)
    before = np.asarray(jaxdirect.gather(table, [3]))
    array[3] = 42
    after = np.asarray(jaxdirect.gather(table, [3]))
    assert not np.array_equal(before, after)
    np.testing.assert_array_equal(after, np.full((1, 4), 42))


def test_is_unified_inside_and_outside_jit():
    table = jaxdirect.unified(pages((4, 2)))
    device = jnp.ones((4, 2))
    assert jaxdirect.is_unified(table)
    assert not jaxdirect.is_unified(device)
    assert not jaxdirect.is_unified(np.ones(3))
    assert not jaxdirect.is_unified("table")
    seen = []

    @jax.jit
    def look(table, device):
        seen.extend([jaxdirect.is_unified(table), jaxdirect.is_unified(device)])
        return device

    look(table, device)
    assert seen == [True, False]


def test_unified_twice_is_the_same_array():
    array = pages((8, 2))
    table = jaxdirect.unified(array)
    assert jaxdirect.unified(table) is table
    other = jaxdirect.unified(array)
    del table
    gc.collect()
    np.testing.assert_array_equal(jaxdirect.gather(other, [1]), array[[1]])


def test_views_of_one_array_overlap_freely():
    array = pages((4096, 8))
    views = [jaxdirect.unified(array[a:b]) for a, b in [(0, 2048), (1024, 4096), (512, 1536)]]
    for start, view in zip([0, 1024, 512], views, strict=True):
        np.testing.assert_array_equal(jaxdirect.gather(view, [7]), array[[start + 7]])
    del view, views[0]
    gc.collect()
    np.testing.assert_array_equal(jaxdirect.gather(views[0], [0]), array[[1024]])


def test_a_device_array_is_copied_to_the_host():
    values = jnp.arange(12.0).reshape(4, 3)
    table = jaxdirect.unified(values)
    assert jaxdirect.is_unified(table)
    np.testing.assert_array_equal(jaxdirect.gather(table, [2]), values[2:3])


def test_memmap(tmp_path):
    path = tmp_path / "table.bin"
    values = np.arange(3000, dtype=np.float32).reshape(1000, 3)
    values.tofile(path)
    for mode in ("r+", "c"):
        table = jaxdirect.unified(np.memmap(path, np.float32, mode, shape=(1000, 3)))
        np.testing.assert_array_equal(jaxdirect.gather(table, [999, 5]), values[[999, 5]])
    with refuses(ValueError, "unified: array must lie in memory.*read-only mapping.*mode='r\\+'"):
        jaxdirect.unified(np.memmap(path, np.float32, "r", shape=(1000, 3)))


def test_zero_rows_and_zero_width():
    for shape in [(0, 3), (3, 0)]:
        table = jaxdirect.unified(np.zeros(shape, np.float32))
        assert table.shape == shape
        assert jaxdirect.is_unified(table)


def test_replicated_and_row_sharded():
    devices = jax.devices() if len(jax.devices()) > 1 else jax.devices("cpu")
    mesh = Mesh(np.array(devices[:2]), ("x",))
    array = pages((4096, 4))
    replicated = jaxdirect.unified(array, device=NamedSharding(mesh, PartitionSpec()))
    pointers = {shard.data.unsafe_buffer_pointer() for shard in replicated.addressable_shards}
    assert pointers == {array.ctypes.data}
    rows = jaxdirect.unified(array, device=NamedSharding(mesh, PartitionSpec("x")))
    assert [s.data.shape for s in rows.addressable_shards] == [(2048, 4)] * 2
    assert rows.addressable_shards[1].data.unsafe_buffer_pointer() == array[2048:].ctypes.data
    assert jaxdirect.is_unified(rows)
    with refuses(ValueError, "may split the first axis only"):
        jaxdirect.unified(array, device=NamedSharding(mesh, PartitionSpec(None, "x")))


def test_refuses_what_is_no_array():
    with refuses(TypeError, "array must be a NumPy array or a jax.Array, got list; convert"):
        jaxdirect.unified([1.0, 2.0])
    with refuses(ValueError, "must have at least one axis, got a scalar"):
        jaxdirect.unified(np.zeros(()))
    with refuses(TypeError, "must be concrete, got a tracer"):
        jax.jit(jaxdirect.unified)(jnp.ones(3))
    with refuses(TypeError, "device must be a jax.Device or a sharding, got str"):
        jaxdirect.unified(np.ones(3), device="gpu")


@pytest.mark.parametrize("dtype", [object, "S3", "U2", "M8[s]", [("a", "f4")]])
def test_refuses_foreign_dtypes(dtype):
    with refuses(TypeError, "unified: dtype must be one that JAX has, got"):
        jaxdirect.unified(np.zeros((3, 2), dtype))


def test_refuses_sub_byte_dtypes():
    with refuses(TypeError, "dtype must have whole bytes, got int4"):
        jaxdirect.unified(np.zeros((3, 2), jnp.int4))


def test_refuses_strided_arrays():
    array = np.zeros((6, 4), np.float32)
    for strided in (array[::2], array.T, array[:, :2], np.asfortranarray(array)):
        with refuses(ValueError, "must be C-contiguous, got strides.*ascontiguousarray"):
            jaxdirect.unified(strided)


def test_refuses_the_other_byte_order():
    with refuses(ValueError, "machine's byte order, got >f4; convert"):
        jaxdirect.unified(np.zeros((3, 2), ">f4"))


def test_refuses_a_freed_array():
    values = jnp.ones((3, 2))
    values.delete()
    with refuses(ValueError, "unified: array was freed"):
        jaxdirect.unified(values)
