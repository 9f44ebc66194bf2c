"""Bytes that a relational layer must move: without reuse in the L2 cache, and with a perfect one.

Both count what no schedule can avoid, and nothing twice: inputs that are read, outputs that are
written, and one row for each edge where a row of one end has to meet the other end. Compact rows,
partial sums, saved scores and relation counts are choices of an implementation: they are left out.
With a perfect L2 every table is read from memory once, however many edges want its rows.

Terms, with E edges, N nodes, S nodes with an outgoing edge, D nodes with an incoming one, R
relations, T node types, i input and o = H * do output features, H heads, s bytes a number:

    indices          8 E                 a node and a relation or slot for each edge
    rgcn forward     E min(i, o) s       a source row for each edge, transformed or not
                     N o s               the output, also of nodes without incoming edges
                     R i o s             weights
    rgcn backward    E min(i, o) s       a cotangent row for each edge
                     S i s + N i s       x read (weight gradient), its gradient written
                     2 R i o s           weights read, their gradient written
    rgat forward     rgcn's, D i s       and x of the destinations, for their half of the scores
                     2 R o s             and the attention vectors
    rgat backward    rgcn's, 4 R o s     and the attention vectors and their gradients; of x, the
                                         rows of max(S, D) nodes
                     4 D H               and the saved log-sum of each destination and head
    hgt forward      2 E o s             a key and a value row for each edge
                     D i s + N o s       x of the destinations, for their queries; the output
                     3 T i o s + 2 R o do s + R H s   weights
    hgt backward     3 E o s             a cotangent and a query row for each edge at its source,
                                         a key row at its destination
                     max(S, D) i s       x read (three weight gradients)
                     N i s               its gradient written
                     twice the weights   and 4 D H as above

Per-edge scores between the passes of attention (8 H bytes an edge and more) are not counted,
though every atomic-free schedule known to us moves them: the floor is meant to be hard.

The rgcn forward without its weights is what is usually quoted as the traffic of a fused layer:
3 us for AIFB's sizes, 35 for FB15k-237's, 1265 for ogbn-mag's at 64 float32 features.
"""

from __future__ import annotations

import dataclasses

HBM_BYTES_PER_S = 4.8e12  # H200


@dataclasses.dataclass(frozen=True)
class Sizes:
    """Counts that the floors depend on; `features` is both i and o.

    Args:
        nodes, edges, relations, types: of the graph.
        sources, destinations: nodes with an outgoing, an incoming edge.
        features: numbers in a row of x and of the output.
        heads: attention heads; they divide `features`.
        itemsize: bytes a number.
    """

    nodes: int
    edges: int
    relations: int
    types: int
    sources: int
    destinations: int
    features: int
    heads: int = 1
    itemsize: int = 4

    @property
    def row(self) -> int:
        """Bytes of a row."""
        return self.features * self.itemsize


def weight_bytes(model: str, n: Sizes) -> int:
    """Bytes of all weights of a layer."""
    square = n.features * n.row
    if model == "rgcn":
        return n.relations * square
    if model == "rgat":
        return n.relations * (square + 2 * n.row)
    if model == "hgt":
        return 3 * n.types * square + n.relations * (2 * square // n.heads + n.heads * n.itemsize)
    raise ValueError(f"floors: model must be rgcn, rgat or hgt, got {model!r}")


def forward(model: str, n: Sizes, perfect_l2: bool = False) -> int:
    """Bytes of one forward pass."""
    total = 8 * n.edges + n.nodes * n.row + weight_bytes(model, n)
    if perfect_l2:  # x once: the destinations' rows are among it
        read = n.sources if model == "rgcn" else max(n.sources, n.destinations)
        return total + read * n.row
    rows = {"rgcn": 1, "rgat": 1, "hgt": 2}[model] * n.edges
    queries = 0 if model == "rgcn" else n.destinations
    return total + (rows + queries) * n.row


def backward(model: str, n: Sizes, perfect_l2: bool = False) -> int:
    """Bytes of one backward pass: gradients of x and of all weights, given the output's."""
    saved = 0 if model == "rgcn" else 4 * n.destinations * n.heads
    total = 8 * n.edges + 2 * weight_bytes(model, n) + saved
    read = n.sources if model == "rgcn" else max(n.sources, n.destinations)
    total += (read + n.nodes) * n.row
    if perfect_l2:  # the cotangent of every node with an incoming edge, once
        return total + n.destinations * n.row
    return total + {"rgcn": 1, "rgat": 1, "hgt": 3}[model] * n.edges * n.row


def floors(model: str, n: Sizes) -> dict[str, dict[str, float]]:
    """Bytes, and seconds at 4.8 TB/s, of both floors of the forward and of the backward pass."""
    found = {}
    for name, count in (("forward", forward), ("backward", backward)):
        no_reuse, perfect = count(model, n), count(model, n, perfect_l2=True)
        found[name] = {
            "no_reuse_bytes": no_reuse,
            "no_reuse_s": no_reuse / HBM_BYTES_PER_S,
            "perfect_l2_bytes": perfect,
            "perfect_l2_s": perfect / HBM_BYTES_PER_S,
        }
    found["training"] = {k: found["forward"][k] + found["backward"][k] for k in found["forward"]}
    return found
