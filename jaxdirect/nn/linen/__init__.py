"""The layers of `jaxdirect.nn` for `flax.linen`, with the same parameters and numbers."""

from jaxdirect.nn.linen.sage import SAGEConv

__all__ = ["SAGEConv"]
