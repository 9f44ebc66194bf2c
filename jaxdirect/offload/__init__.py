"""Activations leave the device for host memory or disk, and come back for the backward pass.

In the place of SSDTrain (arXiv 2408.10013).
"""

from jaxdirect.offload.checkpoint import checkpoint, name
from jaxdirect.offload.engine import clear, configure, stats
from jaxdirect.offload.flax_layers import linen_remat, nnx_remat
from jaxdirect.offload.policy import Policy, jax_policy

__all__ = [
    "Policy",
    "checkpoint",
    "clear",
    "configure",
    "jax_policy",
    "linen_remat",
    "name",
    "nnx_remat",
    "stats",
]
