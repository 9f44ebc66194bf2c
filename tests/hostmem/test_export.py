"""Ahead-of-time compilation, export, donation, control flow."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

import jaxdirect

TABLE = np.arange(300, dtype=np.float32).reshape(100, 3)
IDS = np.array([5, 99, -1, 100, 0], np.int32)
WANT = np.where(((IDS >= 0) & (IDS < 100))[:, None], TABLE[np.clip(IDS, 0, 99)], 0)


def host_table():
    array = jaxdirect.empty(TABLE.shape, TABLE.dtype)
    array[...] = TABLE
    return jaxdirect.unified(array)


def test_export_round_trip():
    table = host_table()
    exported = jax.export.export(
        jax.jit(jaxdirect.gather), disabled_checks=jaxdirect.export_checks()
    )(table, IDS)
    again = jax.export.deserialize(exported.serialize())
    np.testing.assert_array_equal(jax.jit(again.call)(table, IDS), WANT)


def test_compiled_ahead_of_time():
    table = host_table()
    compiled = jax.jit(jaxdirect.gather).lower(table, IDS).compile()
    np.testing.assert_array_equal(compiled(table, IDS), WANT)


def test_traced_from_shapes():
    shape = jax.ShapeDtypeStruct(TABLE.shape, TABLE.dtype, sharding=host_table().sharding)
    compiled = jax.jit(jaxdirect.gather).lower(shape, IDS).compile()
    np.testing.assert_array_equal(compiled(host_table(), IDS), WANT)


def test_lowers_for_cuda_on_any_machine():
    table = jax.ShapeDtypeStruct(TABLE.shape, TABLE.dtype)
    lowered = jax.jit(jaxdirect.gather).trace(table, IDS).lower(lowering_platforms=("cuda",))
    native = "jaxdirect_hostmem_gather" in lowered.as_text()
    from jaxdirect import _ffi

    assert native == bool(_ffi.targets("cuda"))


def test_donation_of_other_arguments():
    table = host_table()
    step = jax.jit(lambda state, t, i: state + jaxdirect.gather(t, i), donate_argnums=0)
    state = jnp.zeros((5, 3))
    for _ in range(3):
        state = step(state, table, IDS)
    np.testing.assert_array_equal(state, 3 * WANT)
    np.testing.assert_array_equal(jaxdirect.gather(table, IDS), WANT)


def test_cond_and_while_loop():
    table = host_table()

    @jax.jit
    def either(flag, table, ids):
        return jax.lax.cond(
            flag, lambda t, i: jaxdirect.gather(t, i), lambda t, i: jnp.zeros((5, 3)), table, ids
        )

    np.testing.assert_array_equal(either(True, table, IDS), WANT)
    np.testing.assert_array_equal(either(False, table, IDS), 0 * WANT)

    @jax.jit
    def repeat(table, ids):
        def body(state):
            return state[0] + 1, state[1] + jaxdirect.gather(table, ids)

        return jax.lax.while_loop(lambda state: state[0] < 4, body, (0, jnp.zeros((5, 3))))[1]

    np.testing.assert_array_equal(repeat(table, IDS), 4 * WANT)
