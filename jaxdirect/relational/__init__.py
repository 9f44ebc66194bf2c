"""Relational graph neural networks without a weight or a message per edge (Hector)."""

from jaxdirect.relational.aggregate import aggregate
from jaxdirect.relational.block import block
from jaxdirect.relational.compile import compile
from jaxdirect.relational.edge_softmax import edge_softmax
from jaxdirect.relational.graph import RelGraph
from jaxdirect.relational.hgt import hgt_conv
from jaxdirect.relational.rgat import rgat_conv
from jaxdirect.relational.rgcn import rgcn_conv
from jaxdirect.relational.typed_linear import typed_linear

__all__ = [
    "RelGraph",
    "aggregate",
    "block",
    "compile",
    "edge_softmax",
    "hgt_conv",
    "rgat_conv",
    "rgcn_conv",
    "typed_linear",
]
