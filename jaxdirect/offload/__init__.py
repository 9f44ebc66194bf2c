"""Activations leave the device for host memory or disk, and come back for the backward pass.

In the place of SSDTrain (arXiv 2408.10013).
"""

from jaxdirect.offload._reasons import Name
from jaxdirect.offload.checkpoint import checkpoint, name
from jaxdirect.offload.engine import clear, configure, stats
from jaxdirect.offload.flax_layers import linen_remat, nnx_remat
from jaxdirect.offload.plan import Plan, plan
from jaxdirect.offload.policy import Policy, jax_policy

__all__ = [
    "Name",
    "Plan",
    "Policy",
    "checkpoint",
    "clear",
    "configure",
    "jax_policy",
    "linen_remat",
    "name",
    "nnx_remat",
    "plan",
    "stats",
]
