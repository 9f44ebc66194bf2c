"""Graph layers for Flax: `nnx` here, the same layers for `linen` under `jaxdirect.nn.linen`."""

from jaxdirect.nn.sage import SAGEConv

__all__ = ["SAGEConv"]
