"""What only a GPU can show: no copy of the table, and pages that live exactly long enough."""

from __future__ import annotations

import ctypes
import gc
import os
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

import jaxdirect
from jaxdirect.hostmem import _pages

pytestmark = pytest.mark.gpu

MIB = 1 << 20
# Every operation as its own CUDA graph, or none: XLA's options, not jaxdirect's.
COMMAND_BUFFERS = {"xla_gpu_graph_min_graph_size": 1}
NO_COMMAND_BUFFERS = {"xla_gpu_enable_command_buffer": ""}


def make_table(num_bytes, row=32):
    array = jaxdirect.empty((num_bytes // (4 * row), row), np.float32)
    array[...] = 1
    array[:, 0] = np.arange(len(array))
    return array


def resident_bytes():
    with open("/proc/self/status") as status:
        line = next(line for line in status if line.startswith("VmRSS"))
    return int(line.split()[1]) * 1024


def wait_for_release(limit=30.0):
    gc.collect()
    deadline = time.monotonic() + limit
    while _pages.registered_bytes() and time.monotonic() < deadline:
        time.sleep(0.01)
    return _pages.registered_bytes()


def temporary_bytes(compiled):
    return compiled.memory_analysis().temp_size_in_bytes


@pytest.fixture(scope="module")
def array():
    return make_table(512 * MIB)


@pytest.fixture
def table(array):
    return jaxdirect.unified(array)


@pytest.fixture
def ids(rng, array):
    return jnp.asarray(rng.integers(0, len(array), 4096), jnp.int32)


def loss(weight, table, ids):
    return (jaxdirect.gather(table, ids) @ weight).sum()


def scanned(table, ids):
    def step(total, index):
        return total + jaxdirect.gather(table, index).sum(), None

    return jax.lax.scan(step, 0.0, ids.reshape(8, -1))[0]


def split(table, ids):
    mesh = Mesh(np.array(jax.devices()[:1]), ("x",))
    specs = (PartitionSpec(), PartitionSpec("x"))
    return jax.shard_map(jaxdirect.gather, mesh=mesh, in_specs=specs, out_specs=PartitionSpec("x"))(
        table, ids
    )


PROGRAMS = {
    "jit": (jaxdirect.gather, False),
    "scan": (scanned, False),
    "grad": (jax.grad(loss), True),
    "shard_map": (split, False),
    "vmap": (jax.vmap(jaxdirect.gather, in_axes=(None, 0)), False),
}


@pytest.mark.parametrize("options", [COMMAND_BUFFERS, NO_COMMAND_BUFFERS], ids=["graphs", "plain"])
@pytest.mark.parametrize("name", PROGRAMS)
def test_no_copy_of_the_table(array, table, ids, name, options):
    function, takes_weight = PROGRAMS[name]
    operands = (jnp.ones(32), table, ids) if takes_weight else (table, ids)
    compiled = jax.jit(function).lower(*operands).compile(compiler_options=options)
    assert temporary_bytes(compiled) < 64 * MIB
    assert "copy-start" not in compiled.as_text()
    rows = array[np.asarray(ids)]
    want = {"scan": rows.sum(dtype=np.float64), "grad": rows.sum(0)}.get(name, rows)
    for _ in range(3):
        np.testing.assert_allclose(compiled(*operands), want, rtol=1e-5)


def test_no_copy_after_export_and_with_donation(array, table, ids):
    exported = jax.export.export(
        jax.jit(jaxdirect.gather), disabled_checks=jaxdirect.export_checks()
    )(table, ids)
    again = jax.jit(jax.export.deserialize(exported.serialize()).call)
    assert temporary_bytes(again.lower(table, ids).compile()) < 64 * MIB
    np.testing.assert_array_equal(again(table, ids), array[np.asarray(ids)])
    step = jax.jit(lambda s, t, i: s + jaxdirect.gather(t, i), donate_argnums=0)
    state = jnp.zeros((4096, 32))
    assert temporary_bytes(step.lower(state, table, ids).compile()) < 64 * MIB
    np.testing.assert_array_equal(step(state, table, ids), array[np.asarray(ids)])
    np.testing.assert_array_equal(jaxdirect.gather(table, ids), array[np.asarray(ids)])


def test_shapes_without_the_memory_space(array, table, ids):
    # Ahead of time the shapes do not say where the table lies; the handler looks.
    shape = jax.ShapeDtypeStruct(table.shape, table.dtype, sharding=table.sharding)
    compiled = jax.jit(jaxdirect.gather).lower(shape, ids).compile()
    assert temporary_bytes(compiled) < 64 * MIB
    np.testing.assert_array_equal(compiled(table, ids), array[np.asarray(ids)])


def test_the_reference_moves_the_table_and_agrees(array, ids):
    small = jaxdirect.unified(array[:10000])
    native = jaxdirect.gather(small, ids, fill_value=3)
    reference = jaxdirect.gather(small, ids, fill_value=3, implementation="reference")
    np.testing.assert_array_equal(native, reference)


def test_unified_takes_no_second_copy():
    assert wait_for_release() >= 0
    array = make_table(1024 * MIB)
    before = resident_bytes()
    table = jaxdirect.unified(array)
    jaxdirect.gather(table, np.arange(100)).block_until_ready()
    assert resident_bytes() - before < 64 * MIB
    assert _pages.registered_bytes() >= array.nbytes


@pytest.mark.parametrize(
    "count", [1, 2, 4095, 4097, 5000, 100_003, 1 << 19, (1 << 19) + 1, 3_000_001]
)
def test_workspace_is_enough_at_every_size(rng, count):
    table = jaxdirect.unified(make_table(64 * MIB, row=1))
    ids = rng.integers(-5, table.shape[0] + 5, count)
    inside = (ids >= 0) & (ids < table.shape[0])
    rows = jaxdirect.gather(table, ids, order="sorted", fill_value=-1)
    np.testing.assert_array_equal(np.asarray(rows)[:, 0], np.where(inside, ids, -1))


@pytest.mark.parametrize("options", [COMMAND_BUFFERS, NO_COMMAND_BUFFERS], ids=["graphs", "plain"])
@pytest.mark.parametrize("pads", [0.0, 0.95])
@pytest.mark.parametrize("count", [40_000, 500_000, 600_000])
def test_lists_that_the_gpu_orders_or_not(rng, array, table, count, pads, options):
    # Few reads among many pads are not worth ordering, which only the GPU can see.
    ids = rng.integers(0, len(array), (3, count))
    ids[rng.random(ids.shape) < pads] = -1
    hot = np.unique(ids[0])[:1000]
    cached = jaxdirect.cache_rows(table, hot[hot >= 0])
    want = np.where(ids >= 0, ids, -7)

    def first_columns(table, ids):
        def step(_, index):
            rows = jaxdirect.gather(table, index, fill_value=-7)
            return None, rows[:, 0]

        return jax.lax.scan(step, None, ids)[1]

    for operand in (table, cached):
        compiled = jax.jit(first_columns).lower(operand, ids).compile(compiler_options=options)
        np.testing.assert_array_equal(compiled(operand, ids), want)


@pytest.mark.parametrize("mode", ["r+", "c"])
def test_memmap(tmp_path, mode):
    path = tmp_path / "table.bin"
    values = np.arange(3_000_000, dtype=np.float32).reshape(-1, 3)
    values.tofile(path)
    table = jaxdirect.unified(np.memmap(path, np.float32, mode, shape=values.shape))
    ids = np.array([0, 999_999, 12345])
    np.testing.assert_array_equal(jaxdirect.gather(table, ids), values[ids])


def test_unaligned_addresses_are_refused():
    array = jaxdirect.empty(1001, np.float32)[1:]
    with pytest.raises(ValueError, match=r"multiple of 16 bytes.*jaxdirect\.empty"):
        jaxdirect.unified(array)


def test_pages_outlive_a_queued_computation():
    assert wait_for_release() == 0
    array = make_table(256 * MIB)
    address, size = array.ctypes.data, array.nbytes
    table = jaxdirect.unified(array)

    @jax.jit
    def slow(table, matrix, ids):
        matrix = jax.lax.fori_loop(0, 400, lambda _, m: (m @ m) / 8192, matrix)
        late = ids + jnp.where(jnp.isnan(matrix[0, 0]), 1, 0)
        return jaxdirect.gather(table, late)

    ids = jnp.arange(0, len(array), 7, dtype=jnp.int32)
    matrix = jnp.ones((8192, 8192))
    compiled = slow.lower(table, matrix, ids).compile()
    compiled(table, matrix, ids).block_until_ready()
    rows = compiled(table, matrix, ids)
    del table, array
    gc.collect()
    assert not rows.is_ready(), "the computation ended too soon to show anything"
    assert _pages.registered_bytes() >= size
    np.testing.assert_array_equal(np.asarray(rows)[:, 0], np.asarray(ids))
    assert wait_for_release() == 0
    assert address


def test_pages_are_shared_and_released_with_the_last_user():
    assert wait_for_release() == 0
    array = make_table(64 * MIB)
    first, second = jaxdirect.unified(array), jaxdirect.unified(array[1000:])
    assert _pages.registered_bytes() == array.nbytes
    del first
    gc.collect()
    time.sleep(0.2)
    assert _pages.registered_bytes() > 0
    np.testing.assert_array_equal(jaxdirect.gather(second, np.array([5]))[0, 0], 1005)
    del second
    assert wait_for_release() == 0


def test_create_use_drop_leaves_no_memory_behind():
    cycles = max(10, int(os.environ.get("JAXDIRECT_TEST_CYCLES", "100")))
    ids = jnp.arange(0, 1000, dtype=jnp.int32)
    device = jax.devices()[0]
    host, used = [], []
    for _ in range(cycles):
        array = jaxdirect.empty((1 << 18, 1024), np.float32)  # 1 GiB
        array[:1000] = 1
        jaxdirect.gather(jaxdirect.unified(array), ids).block_until_ready()
        del array
        assert wait_for_release() == 0
        host.append(resident_bytes())
        used.append(device.memory_stats()["bytes_in_use"])
    ctypes.CDLL(None).malloc_trim(0)
    assert max(host[-4:]) - host[5] < 64 * MIB
    assert max(used[-4:]) - used[5] < 1 * MIB


def test_a_table_larger_than_the_pinned_pool():
    gigabytes = float(os.environ.get("JAXDIRECT_TEST_TABLE_GB", "2"))
    rows = int(gigabytes * 1e9) // 1024
    array = jaxdirect.empty((rows, 256), np.float32)
    marked = np.linspace(0, rows - 1, 5000).astype(np.int64)
    array[marked] = marked[:, None] % 65521
    table = jaxdirect.unified(array)
    got = np.asarray(jaxdirect.gather(table, marked))
    np.testing.assert_array_equal(got, np.repeat(marked[:, None] % 65521, 256, 1))


def test_more_than_two_to_the_31_elements():
    array = jaxdirect.empty((2**31 + 4096, 1), np.uint8)
    ids = np.array([0, 2**31 - 1, 2**31 + 4095, 2**31 + 4096, -1], np.int64)
    array[ids[:3], 0] = [1, 2, 3]
    rows = jaxdirect.gather(jaxdirect.unified(array), ids)
    np.testing.assert_array_equal(rows[:, 0], [1, 2, 3, 0, 0])


def test_several_gpus_read_one_registration():
    devices = jax.devices()
    mesh = Mesh(np.array(devices), ("x",))
    array = make_table(64 * MIB)
    table = jaxdirect.unified(array, device=NamedSharding(mesh, PartitionSpec()))
    assert {s.data.unsafe_buffer_pointer() for s in table.addressable_shards} == {array.ctypes.data}
    ids = jax.device_put(
        np.arange(64 * len(devices), dtype=np.int32), NamedSharding(mesh, PartitionSpec("x"))
    )
    compiled = jax.jit(jaxdirect.gather).lower(table, ids).compile()
    assert "all-gather" not in compiled.as_text()
    assert temporary_bytes(compiled) < 64 * MIB
    np.testing.assert_array_equal(compiled(table, ids), array[np.asarray(ids)])
