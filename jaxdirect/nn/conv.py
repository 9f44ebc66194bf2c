"""Flax's convolution layer, computed by `jaxdirect.conv_general_dilated`."""

from __future__ import annotations

import functools
from typing import Any

from flax import nnx

from jaxdirect.conv.general import conv_general_dilated


class Conv(nnx.Conv):
    """`flax.nnx.Conv` with `jaxdirect.conv_general_dilated` in the place of JAX's.

    The arguments, parameters and numbers are Flax's, `conv_general_dilated` among them; a model
    of the one layer takes the parameters of the other.

    Args:
        in_features: channels of the input.
        out_features: channels of the output.
        kernel_size: the filter's spatial extents; an integer for one dimension.
        strides: and whatever else `flax.nnx.Conv` takes, as keyword arguments: padding (`"SAME"`,
            `"VALID"`, `"CIRCULAR"`, `"REFLECT"`, `"CAUSAL"` or pairs), input_dilation,
            kernel_dilation, feature_group_count, use_bias, mask, dtype, param_dtype, precision,
            kernel_init, bias_init, rngs and more.

    Attributes:
        kernel: `[*kernel_size, in_features / feature_group_count, out_features]`.
        bias: `[out_features]`, or None.

    The layer maps `[*batch, *spatial, in_features]` to `[*batch, *spatial, out_features]`.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from jaxdirect.nn import Conv
        >>> layer = Conv(3, 16, (3, 3), strides=2, rngs=nnx.Rngs(0))
        >>> layer(jnp.ones((8, 32, 32, 3))).shape
        (8, 16, 16, 16)
    """

    @functools.wraps(nnx.Conv.__init__)
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("conv_general_dilated", conv_general_dilated)
        super().__init__(*args, **kwargs)
