"""A batch that is split over devices stays split, and the table stays in host memory."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import jaxdirect

TABLE = np.arange(4096, dtype=np.float32).reshape(512, 8)
IDS = np.arange(-1, 63) * 7


def make_mesh(axis_type):
    devices = jax.devices() if len(jax.devices()) > 1 else jax.devices("cpu")
    return jax.make_mesh((2,), ("x",), axis_types=(axis_type,), devices=devices[:2])


@pytest.fixture(params=[AxisType.Auto, AxisType.Explicit], ids=["auto", "explicit"])
def mesh(request):
    return make_mesh(request.param)


WHOLE = PartitionSpec()


def place(mesh, *, rows=WHOLE):
    array = jaxdirect.empty(TABLE.shape, TABLE.dtype)
    array[...] = TABLE
    table = jaxdirect.unified(array, device=NamedSharding(mesh, rows))
    ids = jax.device_put(IDS.astype(np.int32), NamedSharding(mesh, PartitionSpec("x")))
    return table, ids


def want():
    return np.where((IDS >= 0)[:, None], TABLE[np.clip(IDS, 0, 511)], 0)


@pytest.mark.parametrize("implementation", ["native", "reference"])
def test_plain_jit_stays_split(mesh, implementation):
    table, ids = place(mesh)
    gather = jax.jit(lambda t, i: 2 * jaxdirect.gather(t, i, implementation=implementation))
    compiled = gather.lower(table, ids).compile()
    assert "all-gather" not in compiled.as_text()
    rows = gather(table, ids)
    assert rows.sharding.spec[0] == "x"
    np.testing.assert_array_equal(rows, 2 * want())


@pytest.mark.parametrize("implementation", ["native", "reference"])
@pytest.mark.parametrize("dtype", ["int64", "float64"])
def test_64_bit_tables_keep_their_width(mesh, dtype, implementation):
    array = jaxdirect.empty(TABLE.shape, dtype)
    array[...] = TABLE
    table = jaxdirect.unified(array, device=NamedSharding(mesh, PartitionSpec()))
    _, ids = place(mesh)
    rows = jax.jit(functools.partial(jaxdirect.gather, implementation=implementation))(table, ids)
    assert rows.dtype == dtype
    assert rows.sharding.spec[0] == "x"
    np.testing.assert_array_equal(rows, want().astype(dtype))


def test_gradient_of_a_consumer_stays_split(mesh):
    table, ids = place(mesh)
    weight = jax.device_put(jnp.ones(8), NamedSharding(mesh, PartitionSpec()))

    def loss(weight, table, ids):
        return (jaxdirect.gather(table, ids) * weight[None]).sum()

    step = jax.jit(jax.grad(loss))
    assert "all-gather" not in step.lower(weight, table, ids).compile().as_text()
    np.testing.assert_allclose(step(weight, table, ids), want().sum(0), rtol=1e-6)


def test_vmap_stays_split(mesh):
    table, _ = place(mesh)
    spec = NamedSharding(mesh, PartitionSpec(None, "x"))
    pairs = jax.device_put(IDS.astype(np.int32).reshape(2, 32), spec)
    rows = jax.jit(jax.vmap(jaxdirect.gather, in_axes=(None, 0)))(table, pairs)
    np.testing.assert_array_equal(rows, want().reshape(2, 32, 8))


@pytest.mark.parametrize("check_vma", [True, False])
def test_shard_map_over_a_replicated_table(mesh, check_vma):
    table, ids = place(mesh)
    gather = jax.jit(
        jax.shard_map(
            jaxdirect.gather,
            mesh=mesh,
            in_specs=(PartitionSpec(), PartitionSpec("x")),
            out_specs=PartitionSpec("x"),
            check_vma=check_vma,
        )
    )
    assert "all-gather" not in gather.lower(table, ids).compile().as_text()
    np.testing.assert_array_equal(gather(table, ids), want())


def test_shard_map_over_row_shards(mesh):
    table, _ = place(mesh, rows=PartitionSpec("x"))
    local = np.tile(np.arange(-1, 256, 9), 2).astype(np.int32)
    ids = jax.device_put(local, NamedSharding(mesh, PartitionSpec("x")))
    gather = jax.shard_map(
        jaxdirect.gather,
        mesh=mesh,
        in_specs=(PartitionSpec("x"), PartitionSpec("x")),
        out_specs=PartitionSpec("x"),
    )
    rows = np.asarray(jax.jit(gather)(table, ids))
    shards = TABLE.reshape(2, 256, 8)
    for shard, part in zip(shards, np.split(rows, 2), strict=True):
        np.testing.assert_array_equal(part[1:], shard[local[1 : len(part)]])
        np.testing.assert_array_equal(part[0], 0)


def test_gradient_of_a_shared_device_table_is_summed_over_devices(mesh):
    _, ids = place(mesh)
    table = jax.device_put(TABLE, NamedSharding(mesh, PartitionSpec()))

    def loss(table, ids):
        split = jax.shard_map(
            lambda t, i: jax.lax.psum(jaxdirect.gather(t, i).sum(), "x"),
            mesh=mesh,
            in_specs=(PartitionSpec(), PartitionSpec("x")),
            out_specs=PartitionSpec(),
        )
        return split(table, ids)

    got = jax.jit(jax.grad(loss))(table, ids)
    counts = np.zeros(512)
    np.add.at(counts, IDS[IDS >= 0], 1)
    np.testing.assert_array_equal(got, np.repeat(counts[:, None], 8, 1))


def test_row_sharded_under_plain_jit_is_refused(mesh):
    table, ids = place(mesh, rows=PartitionSpec("x"))
    with pytest.raises(Exception, match=r"table must be replicated.*shard_map"):
        jax.jit(jaxdirect.gather)(table, ids)
