"""Graphs made on the machine: a power law of any size, and WordNet tiled up."""

from __future__ import annotations

import dataclasses

import jax
import numpy as np

import jaxdirect

from .context import Context

EXPONENT = 2.2  # P(degree = d) falls as d^-2.2
MAX_DEGREE = 1_000_000


@dataclasses.dataclass(frozen=True)
class HostGraph:
    """CSR arrays on the host, and what to say about them.

    Args:
        indptr: int64 [nodes + 1].
        indices: int32 [edges].
        note: how it was made, for the report.
    """

    indptr: np.ndarray
    indices: np.ndarray
    note: str

    @property
    def nodes(self) -> int:
        return len(self.indptr) - 1

    @property
    def nbytes(self) -> int:
        return self.indptr.nbytes + self.indices.nbytes

    def unified(self) -> jaxdirect.CSRGraph:
        """The graph with both arrays as unified tables."""
        return jaxdirect.CSRGraph(jaxdirect.unified(self.indptr), jaxdirect.unified(self.indices))

    def seeds(self, sets: int, batch: int, seed: int) -> np.ndarray:
        """Uniform seed nodes [sets, batch], int32."""
        shape = (sets, batch)
        return np.random.default_rng(seed).integers(0, self.nodes, shape, dtype=np.int32)


def power_law(ctx: Context, nodes: int, mean: float, seed: int = 0) -> HostGraph:
    """A configuration-model graph: power-law degrees, neighbours drawn in proportion to degree.

    Each entry is the owner of a random slot, so hubs are as frequent among the neighbours as they
    are in a natural graph. Drawn on the GPU chunk by chunk where there is one.

    Args:
        ctx: benchmark context.
        nodes: number of nodes.
        mean: mean degree aimed at; the smallest degree follows from it and the exponent.
        seed: of the random numbers.
    """
    smallest = mean * (EXPONENT - 2) / (EXPONENT - 1)
    draw = _power_law_torch if ctx.torch_cuda else _power_law_numpy
    indptr, indices = draw(ctx, nodes, smallest, seed)
    degree = np.diff(indptr)
    note = (
        f"power law: P(d) ~ d^-{EXPONENT}, {nodes} nodes, {len(indices)} entries, "
        f"degree mean {degree.mean():.1f}, min {degree.min()}, max {degree.max()}"
    )
    return HostGraph(indptr, indices, note)


def _power_law_numpy(ctx: Context, nodes: int, smallest: float, seed: int):
    del ctx
    rng = np.random.default_rng(seed)
    uniform = 1.0 - rng.random(nodes)
    limit = min(MAX_DEGREE, nodes)
    degree = np.minimum(smallest * uniform ** (-1 / (EXPONENT - 1)) + 0.5, limit).astype(np.int64)
    indptr = jaxdirect.empty((nodes + 1,), np.int64)
    indptr[0] = 0
    np.cumsum(degree, out=indptr[1:])
    owner = np.repeat(np.arange(nodes, dtype=np.int32), degree)
    indices = jaxdirect.empty((int(indptr[-1]),), np.int32)
    indices[:] = owner[rng.integers(0, owner.size, owner.size)]
    return indptr, indices


def _power_law_torch(ctx: Context, nodes: int, smallest: float, seed: int):
    torch = ctx.torch
    random = torch.Generator(device="cuda").manual_seed(seed)
    uniform = 1.0 - torch.rand(nodes, device="cuda", dtype=torch.float64, generator=random)
    limit = min(MAX_DEGREE, nodes)
    degree = (smallest * uniform ** (-1 / (EXPONENT - 1)) + 0.5).clamp(max=limit).long()
    indptr = jaxdirect.empty((nodes + 1,), np.int64)
    indptr[0] = 0
    torch.from_numpy(indptr[1:]).copy_(degree.cumsum(0))
    ids = torch.arange(nodes, device="cuda", dtype=torch.int32)
    owner = torch.repeat_interleave(ids, degree)
    edges = owner.numel()
    indices = jaxdirect.empty((edges,), np.int32)
    target, step = torch.from_numpy(indices), 1 << 27
    for begin in range(0, edges, step):
        end = min(edges, begin + step)
        slots = torch.randint(0, edges, (end - begin,), device="cuda", generator=random)
        target[begin:end].copy_(owner[slots])
        del slots
    del owner, uniform, degree, ids
    torch.cuda.empty_cache()
    return indptr, indices


def wordnet(tiles: int) -> HostGraph:
    """`tiles` copies of WordNet's pointer graph side by side, each with its own nodes."""
    from jaxdirect import data

    indptr, indices = _csr_of(data.wordnet(feature_dim=1))
    nodes, edges = len(indptr) - 1, len(indices)
    wide = jaxdirect.empty((tiles * nodes + 1,), np.int64)
    wide[0] = 0
    wide[1:].reshape(tiles, nodes)[:] = indptr[1:] + np.arange(tiles)[:, None] * edges
    tiled = jaxdirect.empty((tiles * edges,), np.int32)
    tiled.reshape(tiles, edges)[:] = indices + (np.arange(tiles) * nodes)[:, None]
    note = f"WordNet, {tiles} copies: {tiles * nodes} nodes, {tiles * edges} entries"
    return HostGraph(wide, tiled, note)


def _csr_of(dataset) -> tuple[np.ndarray, np.ndarray]:
    """(indptr int64, indices int32) of a data set that has a graph, or is one."""
    graph = getattr(dataset, "graph", dataset)
    indptr, indices = (np.asarray(jax.device_get(a)) for a in (graph.indptr, graph.indices))
    return indptr.astype(np.int64), indices.astype(np.int32)
