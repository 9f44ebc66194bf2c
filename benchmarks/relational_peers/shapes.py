"""Sizes of the eight graphs of Hector's evaluation, and how their edges spread over relations."""

from __future__ import annotations

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class Spread:
    """Sizes of relations: what is known of a distribution.

    Args:
        median: edges of the median relation.
        largest: edges of the largest relation.
        small: share of the relations with fewer than 64 edges, or None where it is not known.
    """

    median: float
    largest: int
    small: float | None = None


@dataclasses.dataclass(frozen=True)
class Shape:
    """What a graph is drawn to.

    Args:
        name: of the graph whose sizes these are.
        nodes, edges, relations: counts.
        types: nodes of each type, or how many types there are (then type k has a share ~ 1/k).
        spread: sizes of those relations that `fixed` does not give.
        fixed: (edges, source type, destination type) of the first relations.
        near, far: wanted share of unique (node, relation) pairs per edge, at the end of a relation
            that has fewer of them and at the other; None: every node of the type may take part.
        inverses: the second half of the relations are the first half turned round.
    """

    name: str
    nodes: int
    edges: int
    relations: int
    types: int | tuple[int, ...] = 1
    spread: Spread | None = None
    fixed: tuple[tuple[int, int, int], ...] = ()
    near: float | None = None
    far: float | None = None
    inverses: bool = False

    def type_sizes(self) -> np.ndarray:
        """Nodes of each type; they sum to `nodes`."""
        if not isinstance(self.types, int):
            return np.asarray(self.types)
        share = 1 / np.arange(1, self.types + 1)
        sizes = np.maximum(1, (self.nodes * share / share.sum()).astype(np.int64))
        sizes[0] += self.nodes - sizes.sum()
        return sizes

    def relation_sizes(self) -> np.ndarray:
        """Edges of each relation, without the inverses."""
        parts = 2 if self.inverses else 1
        fixed = [size for size, _, _ in self.fixed]
        rest, total = self.relations // parts - len(fixed), self.edges // parts - sum(fixed)
        if rest == 0:
            return np.asarray(fixed, np.int64)
        assert self.spread is not None
        return np.concatenate([np.asarray(fixed, np.int64), fit(total, rest, self.spread)])


def fit(total: int, count: int, spread: Spread) -> np.ndarray:
    """`count` sizes that sum to `total`, in falling order, with the median and maximum given.

    Below the median they are log-normal, with the width that puts the wanted share under 64;
    above it the logarithm rises from the median to the maximum as a power of the rank, with the
    exponent that meets the total.
    """
    middle = count // 2
    below = _normal_quantile((np.arange(middle) + 0.5) / count)
    width = 1.2
    if spread.small is not None and 0 < spread.small < 0.5 and spread.median > 64:
        width = np.log(spread.median / 64) / -_normal_quantile(np.array([spread.small]))[0]
    low = np.maximum(1.0, spread.median * np.exp(width * below))
    rank = np.arange(count - middle) / max(1, count - middle - 1)

    def high(exponent: float) -> np.ndarray:
        return spread.median * (spread.largest / spread.median) ** (rank**exponent)

    least, most = 0.05, 60.0
    for _ in range(60):
        exponent = (least + most) / 2
        if low.sum() + high(exponent).sum() > total:
            least = exponent
        else:
            most = exponent
    sizes = np.floor(np.concatenate([low, high(most)])[::-1]).astype(np.int64)
    # What rounding left over goes to the large relations next to the largest.
    last = max(2, count // 4)
    extra = total - sizes.sum()
    sizes[1:last] += extra // (last - 1)
    sizes[1] += total - sizes.sum()
    if sizes.min() < 1:
        raise ValueError(f"fit: {count} relations of {spread} do not sum to {total}")
    return sizes


def _normal_quantile(share: np.ndarray) -> np.ndarray:
    """Quantiles of the normal distribution, by its tabled cumulative sum."""
    z = np.linspace(-6, 6, 24_001)
    cumulative = np.cumsum(np.exp(-(z**2) / 2))
    return np.interp(share, cumulative / cumulative[-1], z)


# Sizes are those of the papers. Medians, maxima and shares of small relations are those of the RDF
# variants that FASTEN ships (aifb, mutag, bgs, am; scaled to the number of edges here) and of the
# public FB15k-237; for wikikg2 and most of biokg no list was at hand and they are assumed. Mag's
# and biokg's types, and mag's relations, are the real ones.
_PAPER, _AUTHOR, _INSTITUTION, _FIELD = range(4)
_DISEASE, _PROTEIN, _DRUG, _SIDE_EFFECT, _FUNCTION = range(5)
_BIOKG_FIXED = (
    (1_433_000, _FUNCTION, _FUNCTION),
    (777_600, _PROTEIN, _FUNCTION),
    (157_500, _DRUG, _SIDE_EFFECT),
    (118_000, _DRUG, _PROTEIN),
    (73_500, _DISEASE, _PROTEIN),
    (5_100, _DRUG, _DISEASE),
)
_MAG = (
    (7_145_660, _AUTHOR, _PAPER),  # writes
    (5_416_271, _PAPER, _PAPER),  # cites
    (7_505_078, _PAPER, _FIELD),  # has_topic
    (1_043_998, _AUTHOR, _INSTITUTION),  # affiliated_with
)
_SHAPES = (
    Shape("aifb", 7_262, 48_810, 104, 7, Spread(155, 3_740, 22 / 90), (), 0.31, 0.80, True),
    Shape("mutag", 27_163, 148_100, 50, 5, Spread(61, 22_484), (), 0.31, 0.80, True),
    Shape("bgs", 94_806, 672_884, 122, 27, Spread(253, 54_800, 68 / 206), (), 0.31, 0.80, True),
    Shape("fb15k", 14_541, 620_232, 474, 1, Spread(425, 18_222, 1 / 237), (), 0.108, 0.445, True),
    Shape(
        "biokg",
        93_773,
        4_762_678,
        51,
        (10_687, 17_499, 10_533, 9_969, 45_085),
        Spread(20_000, 315_000),
        _BIOKG_FIXED,
    ),
    Shape("am", 1_885_136, 5_668_682, 108, 7, Spread(13_700, 375_000), (), 0.50, 0.95, True),
    Shape("mag", 1_939_743, 21_111_007, 4, (736_389, 1_134_649, 8_740, 59_965), fixed=_MAG),
    Shape("wikikg2", 2_500_604, 16_109_182, 535, 1, Spread(900, 2_400_000, 0.1), (), 0.24, 0.60),
    Shape("tiny", 300, 2_400, 6, 3, Spread(200, 700), (), 0.2, 0.6, True),
)
SHAPES = {shape.name: shape for shape in _SHAPES}
EIGHT = ("aifb", "mutag", "bgs", "fb15k", "biokg", "am", "mag", "wikikg2")
