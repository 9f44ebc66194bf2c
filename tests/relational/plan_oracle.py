"""What every array of a relational plan must hold, spelt out with dicts, lists and loops."""

from __future__ import annotations

from collections import defaultdict

import jax
import numpy as np
from plan_checks import (
    TILE,
    WINDOW,
    check_chunks,
    check_lists,
    check_node_tiles,
    ends_of,
    piece_of,
)


class Oracle:
    """The edges of a graph, one tuple each, in destination order."""

    def __init__(self, src, dst, etype, num_nodes, num_relations, ntype=None, num_types=0):
        order = sorted(range(len(src)), key=lambda e: (dst[e], etype[e], src[e], e))
        self.edge_ids = order
        self.edges = [(int(src[e]), int(dst[e]), int(etype[e])) for e in order]
        self.num_nodes, self.num_relations, self.ntype = num_nodes, num_relations, ntype
        self.count = defaultdict(int)
        for _, d, r in self.edges:
            self.count[d, r] += 1

    def scale(self, p):
        """1 / c of an edge."""
        _, d, r = self.edges[p]
        return np.float32(1) / np.float32(self.count[d, r])

    def unique(self, r, end):
        """How many sources (end 0) or destinations (1) a relation has."""
        return len({edge[end] for edge in self.edges if edge[2] == r})

    def pairs(self):
        """The (relation, source's type) pairs, in order."""
        if self.ntype is None:
            return [(r, 0) for r in range(self.num_relations)]
        found = {(r, int(self.ntype[s])) for s, _, r in self.edges}
        empty = set(range(self.num_relations)) - {r for r, _ in found}
        return sorted(found | {(r, 0) for r in empty})

    def tiles(self, weight_of, near, most):
        """[(weight, [(near node, positions)])] in order; weight_of(p) is None: left out."""
        by_pair = defaultdict(list)
        for p, edge in enumerate(self.edges):
            if weight_of(p) is not None:
                by_pair[weight_of(p), edge[near]].append(p)
        slots = defaultdict(list)
        for (weight, node), members in sorted(by_pair.items()):
            members.sort(key=lambda p: (self.edges[p][1 - near], p))
            for at in range(0, len(members), most):
                slots[weight].append((node, members[at : at + most]))
        tiles = [
            (weight, rows[at : at + TILE])
            for weight, rows in sorted(slots.items())
            for at in range(0, len(rows), TILE)
        ]
        return sorted(tiles, key=lambda tile: (tile[1][0][0] // WINDOW, tile[0], tile[1][0][0]))

    def check(self, graph):
        """Every array of `graph`."""
        graph = jax.tree.map(np.asarray, graph)
        num_edges = len(self.edges)
        room = np.arange(num_edges, graph.num_edges)
        np.testing.assert_array_equal(graph.edge_ids, [*self.edge_ids, *room])
        rows = [[] for _ in range(graph.num_nodes)]
        out = [[] for _ in range(graph.num_nodes)]
        for p, (s, d, _) in enumerate(self.edges):
            rows[d].append(s)
            out[s].append((p, d))
        check_lists(graph.incoming, rows)
        check_lists(graph.outgoing, [[d for _, d in row] for row in out])
        flat = [p for row in out for p, _ in row]
        np.testing.assert_array_equal(graph.outgoing_edges, [*flat, *room])
        counts = [
            [sum(edge[2] == r for edge in self.edges), self.unique(r, 0), self.unique(r, 1)]
            for r in range(self.num_relations)
        ]
        np.testing.assert_array_equal(
            graph.relation_counts, np.reshape(counts, (self.num_relations, 3))
        )
        self._check_sums(graph)
        if graph.attention is not None:
            self._check_attention(graph)
        if self.ntype is not None:
            check_node_tiles(graph)

    def _check_sums(self, graph):
        most = 1 if graph.compaction == "none" else piece_of(graph.num_edges)
        near_dst = [
            graph.compaction == "min" and self.unique(r, 0) > self.unique(r, 1)
            for r in range(self.num_relations)
        ]
        relation = [edge[2] for edge in self.edges]
        direct = self.tiles(lambda p: None if near_dst[relation[p]] else relation[p], 0, most)
        others = self.tiles(lambda p: relation[p] if near_dst[relation[p]] else None, 1, most)
        sums = graph.sums
        if not graph.padded:
            assert sums.tiles.num_direct == len(direct)
        slots = check_tiles(sums.tiles, self, [(direct, 0), (others, 1)], self.num_relations)
        far_scale = np.asarray(sums.far_scale)
        for entry, p in enumerate(np.asarray(sums.tiles.far_edges)[: len(self.edges)]):
            assert far_scale[entry] == self.scale(p)
        assert not far_scale[len(self.edges) :].any()

        for end, lists, scales in (
            (1, sums.into, sums.into_scale),
            (0, sums.outof, sums.outof_scale),
        ):
            rows = [[] for _ in range(graph.num_nodes)]
            for p, edge in enumerate(self.edges):
                whole = near_dst[edge[2]] == (end == 1)
                rows[edge[end]].append((edge[2], slots[p], 1 if whole else self.scale(p), whole))
            kept = []
            for row in rows:
                row.sort(key=lambda entry: entry[:2])
                repeated = [i > 0 and row[i] == row[i - 1] and row[i][3] for i in range(len(row))]
                kept.append([entry for entry, drop in zip(row, repeated, strict=True) if not drop])
            check_lists(lists, [[entry[1] for entry in row] for row in kept])
            flat = [entry[2] for row in kept for entry in row]
            padding = [0] * (lists.num_entries - len(flat))
            np.testing.assert_array_equal(scales, np.array([*flat, *padding], np.float32))
        self.check_paths(graph)

    def check_paths(self, graph):
        """The sums lead along each edge once, by 1 / c: there and back."""
        sums, tiles = graph.sums, graph.sums.tiles
        expected = defaultdict(float)
        for p, (s, d, r) in enumerate(self.edges):
            expected[r, d, s] += float(self.scale(p))
        nodes, weight_of = tiles.nodes.tolist(), tiles.weight_of.tolist()
        entries = list(zip(tiles.far.indices.tolist(), sums.far_scale.tolist(), strict=True))
        far = [entries[slice(*ends)] for ends in ends_of(tiles.far)]
        for lists, scales, forward in (
            (sums.into, sums.into_scale, True),
            (sums.outof, sums.outof_scale, False),
        ):
            found = defaultdict(float)
            entries = list(zip(lists.indices.tolist(), scales.tolist(), strict=True))
            for row, ends in enumerate(ends_of(lists)):
                for slot, scale in entries[slice(*ends)]:
                    near = [(nodes[slot], 1.0)]
                    direct = slot // TILE < tiles.num_direct
                    for other, by in near if direct == forward else far[slot]:
                        key = (row, other) if forward else (other, row)
                        found[weight_of[slot // TILE], *key] += by * scale
            assert found.keys() == expected.keys()
            for key, value in expected.items():
                assert abs(found[key] - value) < 1e-5 * max(1, value)

    def _check_attention(self, graph):
        most = 1 if graph.compaction == "none" else piece_of(graph.num_edges)
        attention, pairs = graph.attention, self.pairs()
        far_slots = attention.dst_slots[attention.src_tiles.far_edges]
        np.testing.assert_array_equal(attention.far_dst_slots, far_slots)
        number = {pair: i for i, pair in enumerate(pairs)}
        room = [0] * (attention.pair_type.shape[0] - len(pairs))
        np.testing.assert_array_equal(attention.pair_relation, [*(r for r, _ in pairs), *room])
        np.testing.assert_array_equal(attention.pair_type, [*(t for _, t in pairs), *room])

        def pair(p):
            s, _, r = self.edges[p]
            return number[r, 0 if self.ntype is None else int(self.ntype[s])]

        for near, tiles, slots, lists, weight, weights in (
            (
                0,
                attention.src_tiles,
                attention.src_slots,
                attention.src_rows,
                pair,
                len(room) + len(pairs),
            ),
            (
                1,
                attention.dst_tiles,
                attention.dst_slots,
                attention.dst_rows,
                lambda p: self.edges[p][2],
                self.num_relations,
            ),
        ):
            expected = self.tiles(weight, near, most)
            parts = [(expected, 0), ([], 1)] if near == 0 else [([], 0), (expected, 1)]
            found = check_tiles(tiles, self, parts, weights)
            padding = [-1] * (graph.num_edges - len(found))
            np.testing.assert_array_equal(slots, [*found, *padding])
            rows = [[] for _ in range(graph.num_nodes)]
            for slot, node in enumerate(np.asarray(tiles.nodes)):
                if node >= 0:
                    rows[node].append(slot)
            check_lists(lists, rows)


def check_tiles(tiles, oracle, parts, num_weights):
    """The tiles are those of the two parts (and empty ones); returns the slot of each edge."""
    sizes = (tiles.num_direct, tiles.num_tiles - tiles.num_direct)
    weights, nodes, rows, slots = [], [], [], [None] * len(oracle.edges)
    edges = []
    for (part, near), size in zip(parts, sizes, strict=True):
        for weight, members in part + [(-1, [])] * (size - len(part)):
            for node, positions in members:
                for p in positions:
                    slots[p] = len(nodes)
                edges += positions
                nodes.append(node)
                rows.append([oracle.edges[p][1 - near] for p in positions])
            nodes += [-1] * (TILE - len(members))
            rows += [[]] * (TILE - len(members))
            weights.append(weight)
    np.testing.assert_array_equal(tiles.weight_of, weights)
    np.testing.assert_array_equal(tiles.nodes, nodes)
    check_lists(tiles.far, rows)
    room = tiles.far_edges.shape[0]
    np.testing.assert_array_equal(tiles.far_edges, [*edges, *range(len(edges), room)])
    check_chunks(tiles, num_weights)
    return slots
