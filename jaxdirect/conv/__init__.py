"""Convolutions: a drop-in for `jax.lax.conv_general_dilated`."""

from jaxdirect.conv.explain import explain
from jaxdirect.conv.general import conv_general_dilated

__all__ = ["conv_general_dilated", "explain"]
