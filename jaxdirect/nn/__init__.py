"""Layers for Flax: `nnx` here, the same layers for `linen` under `jaxdirect.nn.linen`."""

from jaxdirect.nn.conv import Conv
from jaxdirect.nn.hgt import HGTConv
from jaxdirect.nn.rgat import RGATConv
from jaxdirect.nn.rgcn import RGCNConv
from jaxdirect.nn.sage import SAGEConv

__all__ = ["Conv", "HGTConv", "RGATConv", "RGCNConv", "SAGEConv"]
