"""The layers of `jaxdirect.nn` for `flax.linen`, with the same parameters and numbers."""

from jaxdirect.nn.linen.conv import Conv
from jaxdirect.nn.linen.hgt import HGTConv
from jaxdirect.nn.linen.rgat import RGATConv
from jaxdirect.nn.linen.rgcn import RGCNConv
from jaxdirect.nn.linen.sage import SAGEConv

__all__ = ["Conv", "HGTConv", "RGATConv", "RGCNConv", "SAGEConv"]
