"""What holds for lists, chunks and tiles of nodes, whatever they are for."""

from __future__ import annotations

import numpy as np

TILE = 64
WINDOW = 1 << 16  # near nodes whose tiles are ordered by weight


def piece_of(num_entries):
    """The most entries of an item: enough items for a GPU, of 16 to 64 entries."""
    return 1 << min(max(int(num_entries) >> 14, 16), 64).bit_length() - 1


def ends_of(lists):
    """(begin, end) of each row."""
    indptr = np.asarray(lists.indptr)
    return list(zip(indptr[:-1].tolist(), indptr[1:].tolist(), strict=True))


def check_lists(lists, rows):
    """The entries are those of `rows`, and then padding."""
    np.testing.assert_array_equal(lists.indptr, np.cumsum([0, *map(len, rows)]))
    flat = [entry for row in rows for entry in row]
    np.testing.assert_array_equal(lists.indices, [*flat, *[-1] * (lists.num_entries - len(flat))])
    check_division(lists)


def check_division(lists):
    """The items cover each entry once, in order, as many rows in one as it may hold."""
    ends, items = ends_of(lists), np.asarray(lists.items).tolist()
    piece = piece_of(lists.num_entries)
    while items and items[-1] == [0, 0, 0, 0]:
        items.pop()
    row = partial = 0
    heavy = []
    items.reverse()
    while items:
        first, begin, end, code = items.pop()
        assert first == row
        assert begin == ends[row][0]
        if code > 0:
            assert end == ends[row + code - 1][1]
            assert end - begin <= piece
            assert code <= piece // 2
            row += code
            if row < len(ends) and code < piece // 2:  # one more row would have been too many
                assert ends[row][1] - begin > piece
            continue
        assert ends[row][1] - begin > piece
        first_partial = partial
        while True:
            assert (code, end - begin) == (~partial, min(piece, ends[row][1] - begin))
            partial += 1
            if end == ends[row][1]:
                break
            assert items[-1][:2] == [row, end]
            _, begin, end, code = items.pop()
        heavy.append([row, first_partial, partial - first_partial])
        row += 1
    assert row == len(ends)
    found = np.asarray(lists.heavy).tolist()
    assert found[: len(heavy)] == heavy
    assert all(rest == [-1, 0, 0] for rest in found[len(heavy) :])
    assert lists.num_partials in (partial, 2 * lists.num_entries // (piece + 1))  # exact, padded


def check_chunks(tiles, num_weights):
    """The chunks cover each weight's tiles once, in order."""
    weights = np.asarray(tiles.weight_of).tolist()
    by_weight = [[t for t, w in enumerate(weights) if w == weight] for weight in range(num_weights)]
    flat = [t for members in by_weight for t in members]
    np.testing.assert_array_equal(tiles.weight_tiles, [*flat, *[-1] * (len(weights) - len(flat))])
    most = min(max(-(-len(weights) // 528), 4), 128)
    chunks, begin = [], 0
    indptr = [0]
    for weight, members in enumerate(by_weight):
        end = begin + len(members)
        chunks += [[weight, at, min(at + most, end)] for at in range(begin, end, most)]
        indptr.append(len(chunks))
        begin = end
    found = np.asarray(tiles.chunks).tolist()
    assert found[: len(chunks)] == chunks
    assert all(rest == [-1, 0, 0] for rest in found[len(chunks) :])
    np.testing.assert_array_equal(tiles.chunk_indptr, indptr)


def check_node_tiles(graph):
    """Each node is in one slot, in a tile of its type, and the lists are empty."""
    tiles, ntype = graph.node_tiles, np.asarray(graph.ntype)
    expected = []
    for kind in range(graph.num_types):
        members = np.flatnonzero(ntype == kind).tolist()
        expected += [(kind, members[at : at + TILE]) for at in range(0, len(members), TILE)]
    expected.sort(key=lambda tile: (tile[1][0] // WINDOW, tile[0], tile[1][0]))
    expected += [(-1, [])] * (tiles.num_tiles - len(expected))
    np.testing.assert_array_equal(tiles.weight_of, [kind for kind, _ in expected])
    nodes = [v for _, members in expected for v in [*members, *[-1] * (TILE - len(members))]]
    np.testing.assert_array_equal(tiles.nodes, nodes)
    check_chunks(tiles, graph.num_types)
    assert not np.asarray(tiles.far.indptr).any()
    assert tiles.far.num_rows == tiles.num_slots
    assert tiles.far.indices.size == tiles.far.items.size == tiles.far.heavy.size == 0
    assert tiles.far_edges.size == 0
