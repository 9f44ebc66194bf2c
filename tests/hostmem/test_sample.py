"""sample_neighbors: the same samples everywhere, uniform, under every transformation."""

from __future__ import annotations

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P
from scipy import stats

import jaxdirect
from jaxdirect.hostmem import _philox

FANOUTS = [1, 2, 3, 10, 25, 33, 64, 300]
KEY = jax.random.key(7)


def sample(graph, seeds, fanout, key=KEY, **options):
    return jaxdirect.sample_neighbors(graph, seeds, fanout, key, **options)


def csr(degrees, num_nodes=None, seed=0):
    indptr = np.concatenate([[0], np.cumsum(degrees)])
    rng = np.random.default_rng(seed)
    return indptr, rng.integers(0, num_nodes or len(degrees), indptr[-1])


def mixed_graph(fanout=25):
    """Degrees 0, 1, below, at and just above the fanout, and random ones."""
    edges = [0, 1, fanout - 1, fanout, fanout + 1, 2 * fanout, 0]
    return csr([*edges, *np.random.default_rng(1).integers(0, 80, 200)])


def star(degree):
    """Node 0 lists the nodes 0..degree-1."""
    indptr = np.full(degree + 1, degree)
    indptr[0] = 0
    return jaxdirect.CSRGraph(indptr, np.arange(degree))


def assert_same(a, b):
    for x, y in zip(a, b, strict=True):
        assert x.dtype == y.dtype
        np.testing.assert_array_equal(x, y)


def check_row(indptr, indices, seed, neighbors, edges, count, fanout, replace):
    start, stop = indptr[seed], indptr[seed + 1]
    degree = stop - start
    assert count == (fanout * (degree > 0) if replace else min(degree, fanout))
    assert np.all(neighbors[count:] == -1)
    assert np.all(edges[count:] == -1)
    edges = edges[:count]
    assert np.all((edges >= start) & (edges < stop))
    np.testing.assert_array_equal(indices[edges], neighbors[:count])
    if not replace:
        assert np.unique(edges).size == count
        if degree <= fanout:
            np.testing.assert_array_equal(edges, np.arange(start, stop))


def test_philox_known_answers():
    # Random123's kat_vectors for philox4x32-10.
    ones, pi = 0xFFFFFFFF, [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344, 0xA4093822, 0x299F31D0]
    cases = [
        ([0] * 4, [0] * 2, [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
        ([ones] * 4, [ones] * 2, [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]),
        (pi[:4], pi[4:], [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1]),
    ]
    for counter, key, words in cases:
        got = _philox.philox(jnp.array(key, jnp.uint32), jnp.array(counter, jnp.uint32))
        assert [int(word) for word in got] == words


def test_bounded_is_exact(rng):
    extremes = [0, 1, 2**16, 2**31 - 1, 2**31, 2**32 - 1]
    edges = np.array([*itertools.product(extremes, repeat=3)], np.uint32).T
    random = rng.integers(0, 2**32, (3, 500), dtype=np.uint32)
    low, high, n = np.concatenate([edges, random], axis=1)
    got = _philox.bounded(jnp.asarray(low), jnp.asarray(high), jnp.asarray(n))
    words = zip(low.tolist(), high.tolist(), n.tolist(), strict=True)
    assert got.tolist() == [((h << 32 | w) * m) >> 64 for w, h, m in words]


@pytest.mark.parametrize("replace", [False, True])
@pytest.mark.parametrize(
    ("dtypes", "fanout"),
    [
        *itertools.product([("int32", "int32"), ("int64", "int64")], FANOUTS),
        (("int32", "int64"), 25),
        (("int64", "int32"), 25),
    ],
)
def test_native_equals_reference_and_both_are_right(dtypes, fanout, replace):
    indptr, indices = mixed_graph(fanout)
    graph = jaxdirect.CSRGraph(
        jaxdirect.unified(indptr.astype(dtypes[0])), jaxdirect.unified(indices.astype(dtypes[1]))
    )
    seeds = np.concatenate([np.arange(graph.num_nodes), [5, 5]]).astype(np.int32)
    native = sample(graph, seeds, fanout, replace=replace, implementation="native")
    assert_same(native, sample(graph, seeds, fanout, replace=replace, implementation="reference"))
    assert native.neighbors.dtype == dtypes[1]
    assert native.edge_ids.dtype == native.counts.dtype == np.int32
    for seed, *row in zip(seeds, *map(np.asarray, native), strict=True):
        check_row(indptr, indices, seed, *row, fanout, replace)


def test_the_samples_are_these():
    # The stream is part of the contract: samples may not change from version to version.
    out = sample(star(1000), np.zeros(3, np.int32), 5, jax.random.key(0))
    first, second = np.asarray(jax.random.bits(jax.random.key(0), (1, 2), jnp.uint32))[0].tolist()
    for i, row in enumerate(np.asarray(out.neighbors).tolist()):
        state = jnp.array([[first, (second + i) % 2**32]], jnp.uint32)
        low, high = (words[0].tolist() for words in _philox.draws(state, 5))
        expected = []
        for j in range(5):
            last = 1000 - 5 + j
            pick = ((high[j] << 32 | low[j]) * (last + 1)) >> 64
            expected.append(last if pick in expected else pick)
        assert row == expected


@pytest.mark.parametrize("order", ["given", "sorted", "auto"])
def test_order_does_not_change_samples(order):
    graph = jaxdirect.CSRGraph(*map(jaxdirect.unified, mixed_graph()))
    seeds = np.random.default_rng(3).integers(-1, graph.num_nodes, 999)
    assert_same(sample(graph, seeds, 10, order=order), sample(graph, seeds, 10, order="given"))


@pytest.mark.parametrize("fanout", [3, 64, 300])
def test_hub(fanout):
    degree = 10**6
    graph = star(degree)
    native = sample(graph, np.zeros(50, np.int32), fanout, implementation="native")
    assert_same(native, sample(graph, np.zeros(50, np.int32), fanout, implementation="reference"))
    neighbors = np.asarray(native.neighbors)
    assert all(np.unique(row).size == fanout for row in neighbors)
    assert neighbors.min() < degree * 0.2
    assert neighbors.max() > degree * 0.8


@pytest.mark.parametrize("implementation", ["native", "reference"])
@pytest.mark.parametrize("dtype", [np.int8, np.uint16, np.int32, np.uint32, np.int64, np.uint64])
def test_seeds_outside_the_graph_give_empty_rows(dtype, implementation):
    graph = jaxdirect.CSRGraph(*csr([3, 4, 5]))
    bad = np.array([3, np.iinfo(dtype).max, np.iinfo(dtype).min or 3, 100], dtype)
    if np.issubdtype(dtype, np.signedinteger):
        bad = np.append(bad, dtype(-1))
    out = sample(graph, bad, 2, implementation=implementation)
    assert np.all(out.neighbors == -1)
    assert np.all(out.edge_ids == -1)
    assert np.all(out.counts == 0)
    assert np.all(sample(graph, np.array([0, 2], dtype), 2).counts == 2)


@pytest.mark.parametrize("implementation", ["native", "reference"])
def test_empty_things(implementation):
    graph = jaxdirect.CSRGraph(*csr([3, 4, 5]))
    none = sample(graph, np.zeros((0, 3), np.int32), 2, implementation=implementation)
    assert [x.shape for x in none] == [(0, 3, 2), (0, 3, 2), (0, 3)]
    assert sample(graph, [], 2, implementation=implementation).counts.shape == (0,)
    no_nodes = jaxdirect.CSRGraph(np.zeros(1, np.int32), np.zeros(0, np.int32))
    no_edges = jaxdirect.CSRGraph(np.zeros(4, np.int32), np.zeros(0, np.int32))
    for empty, replace in itertools.product((no_nodes, no_edges), (False, True)):
        out = sample(empty, [0, 1, -1], 2, implementation=implementation, replace=replace)
        assert np.all(out.neighbors == -1)
        assert np.all(out.counts == 0)


@pytest.mark.parametrize("implementation", ["native", "reference"])
def test_rows_that_lead_outside_are_empty(implementation):
    # Not built by CSRGraph's checks alone: the ends are right, what lies between is not.
    indptr = np.array([0, -2, 9, 1, 2**31 - 1, -(2**31), 3], np.int32)
    graph = jaxdirect.CSRGraph(indptr, np.array([4, 5, 6], np.int32))
    out = sample(graph, np.arange(6), 2, implementation=implementation)
    np.testing.assert_array_equal(out.counts, np.zeros(6))
    assert np.all(out.neighbors == -1)


def test_seeds_of_any_shape():
    graph = jaxdirect.CSRGraph(*mixed_graph())
    seeds = np.arange(24).reshape(2, 3, 4)
    out = sample(graph, seeds, 5)
    assert [x.shape for x in out] == [(2, 3, 4, 5), (2, 3, 4, 5), (2, 3, 4)]
    flat = sample(graph, seeds.reshape(-1), 5)
    np.testing.assert_array_equal(out.neighbors.reshape(24, 5), flat.neighbors)
    assert sample(graph, 3, 5).neighbors.shape == (5,)


def test_raw_and_typed_keys_agree():
    graph = jaxdirect.CSRGraph(*mixed_graph())
    raw = sample(graph, np.arange(9), 5, jax.random.PRNGKey(3))
    assert_same(raw, sample(graph, np.arange(9), 5, jax.random.key(3)))


def test_x64_mode_does_not_change_samples():
    indptr, indices = mixed_graph()
    narrow = sample(jaxdirect.CSRGraph(indptr, indices), np.arange(9), 5)
    with jax.enable_x64(True):
        wide = sample(jaxdirect.CSRGraph(indptr, indices), jnp.arange(9), 5)
    assert wide.neighbors.dtype == np.int64
    np.testing.assert_array_equal(narrow.neighbors, wide.neighbors)


def test_edge_ids_are_wide_from_two_to_the_31_edges_on():
    shapes = [jax.ShapeDtypeStruct((n,), np.int64) for n in (5, 2**31)]
    with jax.enable_x64(True):
        out = jax.eval_shape(lambda *x: sample(jaxdirect.CSRGraph(*x), np.arange(4), 3), *shapes)
    assert out.edge_ids.dtype == np.int64


# Statistics. The keys are fixed, so a test passes always or never.


def p_value(counts, degrees_of_freedom, scale=1.0):
    expected = counts.sum() / counts.size
    return stats.chi2.sf(scale * np.sum((counts - expected) ** 2 / expected), degrees_of_freedom)


@pytest.mark.parametrize(("degree", "fanout"), [(20, 3), (20, 19), (1000, 10), (70, 64)])
def test_single_picks_are_uniform(degree, fanout):
    out = sample(star(degree), np.zeros(200_000 // fanout, np.int32), fanout)
    counts = np.bincount(np.asarray(out.neighbors).reshape(-1), minlength=degree)
    # Picks of one seed repel each other, which makes the sum of squares smaller.
    assert 1e-3 < p_value(counts, degree - 1, (degree - 1) / (degree - fanout)) < 1 - 1e-3


@pytest.mark.parametrize(("degree", "fanout"), [(12, 2), (8, 3), (9, 5)])
def test_subsets_are_uniform(degree, fanout):
    out = np.sort(np.asarray(sample(star(degree), np.zeros(60_000, np.int32), fanout).neighbors))
    codes = np.unique(out @ (degree ** np.arange(fanout)), return_counts=True)[1]
    assert codes.size == math.comb(degree, fanout)
    assert 1e-3 < p_value(codes, codes.size - 1) < 1 - 1e-3


def test_tuples_with_replacement_are_uniform():
    out = np.asarray(sample(star(5), np.zeros(60_000, np.int32), 3, replace=True).neighbors)
    counts = np.bincount(out @ [25, 5, 1], minlength=125)
    assert 1e-3 < p_value(counts, 124) < 1 - 1e-3


def test_seeds_and_keys_are_independent():
    graph, seeds = star(8), np.zeros(100_000, np.int32)
    picks = np.asarray(sample(graph, seeds, 1).neighbors)[:, 0]
    other = np.asarray(sample(graph, seeds, 1, jax.random.key(8)).neighbors)[:, 0]
    for a, b in ((picks[::2], picks[1::2]), (picks[:-1], picks[1:]), (picks, other)):
        assert 1e-3 < p_value(np.bincount(8 * a + b, minlength=64), 63) < 1 - 1e-3


# Transformations.


@pytest.fixture(params=["device", "unified"])
def graph(request):
    make = jaxdirect.unified if request.param == "unified" else np.asarray
    return jaxdirect.CSRGraph(*(make(x.astype(np.int32)) for x in mixed_graph()))


def test_jit(graph):
    seeds = jnp.arange(20)
    assert_same(jax.jit(sample, static_argnums=2)(graph, seeds, 4), sample(graph, seeds, 4))


@pytest.mark.parametrize("axes", [(0, None), (None, 0), (0, 0)])
def test_vmap_equals_a_loop(graph, axes):
    seeds, keys = jnp.arange(24).reshape(3, 8), jax.random.split(KEY, 3)
    mapped = jax.vmap(lambda s, k: sample(graph, s, 4, k), in_axes=axes)
    out = mapped(*(x if axis == 0 else x[0] for x, axis in zip((seeds, keys), axes, strict=True)))
    for i in range(3):
        one = sample(graph, seeds[i * (axes[0] == 0)], 4, keys[i * (axes[1] == 0)])
        assert_same([x[i] for x in out], one)


def test_vmap_twice(graph):
    seeds, keys = jnp.arange(24).reshape(2, 3, 4), jax.random.split(KEY, 3)
    inner = jax.vmap(lambda s, k: sample(graph, s, 4, k))
    out = jax.vmap(inner, in_axes=(0, None))(seeds, keys)
    assert_same([x[1, 2] for x in out], sample(graph, seeds[1, 2], 4, keys[2]))


def test_vmap_over_the_graph_is_refused():
    graph = jaxdirect.CSRGraph(*mixed_graph())
    stacked = jax.tree.map(lambda x: jnp.stack([x, x]), graph)
    with pytest.raises(ValueError, match=r"vmap over graph.ind.* is not supported"):
        jax.vmap(lambda g: sample(g, jnp.arange(3), 2))(stacked)


def test_scan(graph):
    def step(seeds, key):
        out = sample(graph_argument[0], seeds, 1, key)
        return jnp.where(out.counts > 0, out.neighbors[:, 0], seeds), out.counts

    graph_argument = []

    def walk(graph, seeds, keys):
        graph_argument.append(graph)
        return jax.lax.scan(step, seeds, keys)

    keys = jax.random.split(KEY, 4)
    end, counts = jax.jit(walk)(graph, jnp.arange(30), keys)
    seeds, graph_argument[:] = jnp.arange(30), [graph]
    for key in keys:
        seeds, _ = step(seeds, key)
    np.testing.assert_array_equal(end, seeds)
    assert counts.shape == (4, 30)


def test_hops_chain_and_pads_stay_pads(graph):
    first = sample(graph, jnp.arange(50), 10)
    second = sample(graph, first.neighbors.reshape(-1), 5, jax.random.key(1))
    pads = np.asarray(first.neighbors).reshape(-1) < 0
    assert pads.any()
    assert np.all(np.asarray(second.counts)[pads] == 0)
    rows = jaxdirect.gather(jnp.ones((graph.num_nodes, 3)), second.neighbors)
    np.testing.assert_array_equal(np.asarray(rows).any(-1), np.asarray(second.neighbors) >= 0)


@pytest.mark.parametrize("wrap", [lambda f: f, jax.jit, jax.checkpoint])
def test_grad_goes_past_it(graph, wrap):
    def loss(x, graph, seeds, key):
        return jnp.sum(jaxdirect.gather(x, sample(graph, seeds, 4, key).neighbors) ** 2)

    x = jnp.ones((graph.num_nodes, 2))
    got = jax.grad(wrap(loss))(x, graph, jnp.arange(20), KEY)
    picked = np.asarray(sample(graph, jnp.arange(20), 4).neighbors)
    expected = 2.0 * np.bincount(picked[picked >= 0], minlength=graph.num_nodes)
    np.testing.assert_array_equal(got, np.stack([expected, expected], axis=1))


def make_mesh(axis_type):
    devices = jax.devices() if jax.device_count() > 1 else jax.devices("cpu")
    return jax.make_mesh((2,), ("x",), axis_types=(axis_type,), devices=devices[:2])


@pytest.fixture
def mesh():
    return make_mesh(AxisType.Auto)


def replicated(graph, mesh):
    return jax.tree.map(lambda x: jaxdirect.unified(x, device=NamedSharding(mesh, P())), graph)


class TestTwoDevices:
    @pytest.mark.parametrize("implementation", ["native", "reference"])
    @pytest.mark.parametrize("dtype", [np.int32, np.int64])
    def test_plain_jit_keeps_seeds_sharded(self, mesh, dtype, implementation):
        arrays = (jaxdirect.unified(x.astype(dtype)) for x in mixed_graph())
        graph = replicated(jaxdirect.CSRGraph(*arrays), mesh)
        seeds = jax.device_put(jnp.arange(100), NamedSharding(mesh, P("x")))
        call = jax.jit(lambda *args: sample(*args[:2], 5, args[2], implementation=implementation))
        text = call.lower(graph, seeds, KEY).compile().as_text()
        assert "all-gather" not in text
        assert "all-reduce" not in text
        out = call(graph, seeds, KEY)
        assert all(x.sharding.spec[0] == "x" for x in out)
        local = jaxdirect.CSRGraph(*(x.astype(np.int32) for x in mixed_graph()))
        expected = sample(local, jnp.arange(100), 5)
        for x, y in zip(out, expected, strict=True):
            np.testing.assert_array_equal(x, y)

    def test_explicit_axes(self):
        graph = jaxdirect.CSRGraph(*mixed_graph())
        expected = sample(graph, jnp.arange(100), 5)
        with jax.set_mesh(make_mesh(AxisType.Explicit)):
            seeds = jax.device_put(jnp.arange(100), P("x"))
            call = jax.jit(lambda *args: sample(*args[:2], 5, args[2]))
            assert "all-gather" not in call.lower(graph, seeds, KEY).compile().as_text()
            out = call(graph, seeds, KEY)
        assert out.neighbors.sharding.spec[0] == "x"
        assert_same(out, expected)

    @pytest.mark.parametrize("implementation", ["native", "reference"])
    def test_shard_map(self, graph, mesh, implementation):
        def local(graph, seeds, keys):
            return sample(graph, seeds, 5, keys[0], implementation=implementation)

        mapped = jax.jit(
            jax.shard_map(local, mesh=mesh, in_specs=(P(), P("x"), P("x")), out_specs=P("x"))
        )
        seeds, keys = jnp.arange(100), jax.random.split(KEY, 2)
        on_mesh = replicated(graph, mesh)
        assert "all-gather" not in mapped.lower(on_mesh, seeds, keys).compile().as_text()
        out = mapped(on_mesh, seeds, keys)
        for device in range(2):
            half = slice(50 * device, 50 * device + 50)
            assert_same([x[half] for x in out], sample(graph, seeds[half], 5, keys[device]))

    def test_a_sharded_graph_is_refused_under_plain_jit(self, mesh):
        indptr, indices = csr([4] * 100)
        sharded = jax.device_put(jnp.asarray(indices), NamedSharding(mesh, P("x")))
        graph = jaxdirect.CSRGraph(indptr, sharded)
        with pytest.raises(Exception, match=r"graph.indices must be replicated over the mesh"):
            jax.jit(lambda g, s: sample(g, s, 2))(graph, jnp.arange(8))


# Errors.


def test_a_unified_graph_closed_over():
    graph = jaxdirect.CSRGraph(*map(jaxdirect.unified, mixed_graph()))
    with pytest.raises(ValueError, match=r"graph.indptr is a unified array that the traced"):
        jax.jit(lambda seeds: sample(graph, seeds, 2))(jnp.arange(3))


def test_a_freed_graph():
    graph = jaxdirect.CSRGraph(*mixed_graph())
    graph.indices.delete()
    with pytest.raises(ValueError, match=r"graph.indices was freed"):
        sample(graph, jnp.arange(3), 2)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"graph": (1, 2)}, TypeError, "graph must be a CSRGraph, got tuple; make one with"),
        ({"seeds": np.zeros(2)}, TypeError, "seeds must be an integer array, got float64; cast"),
        ({"seeds": np.zeros(2, bool)}, TypeError, "seeds must be an integer array, got bool"),
        ({"fanout": 0}, ValueError, r"fanout must be in \[1, 2\^31\), got 0"),
        ({"fanout": 2**31}, ValueError, r"fanout must be in \[1, 2\^31\), got 2147483648"),
        ({"fanout": 2.0}, TypeError, "fanout must be a plain integer, got float"),
        ({"fanout": True}, TypeError, "fanout must be a plain integer, got bool"),
        ({"key": 3}, TypeError, "key must be a random key, got int; make one with"),
        ({"key": jnp.zeros(2)}, TypeError, "key must be a random key, got float32"),
        ({"key": jax.random.split(KEY)}, ValueError, r"must be a single key, got shape \(2,\)"),
        ({"key": jnp.zeros((3, 2), jnp.uint32)}, ValueError, r"a single key, got shape \(3, 2\)"),
        ({"replace": 1}, TypeError, "replace must be True or False, got int"),
        ({"order": "up"}, ValueError, "order must be one of given, sorted, auto, got 'up'"),
        ({"implementation": "fast"}, ValueError, "implementation must be one of .* got 'fast'"),
    ],
)
def test_bad_arguments(change, error, message):
    graph = jaxdirect.CSRGraph(*csr([3, 4, 5]))
    good = {"graph": graph, "seeds": np.arange(3), "fanout": 2, "key": KEY}
    with pytest.raises(error, match=message):
        jaxdirect.sample_neighbors(**(good | change))


def test_a_traced_fanout():
    graph = jaxdirect.CSRGraph(*csr([3, 4, 5]))
    with pytest.raises(TypeError, match=r"fanout must be a plain integer.*static argument"):
        jax.jit(lambda fanout: sample(graph, jnp.arange(3), fanout))(2)
