"""Flax's convolution layer for `flax.linen`, computed by `jaxdirect.conv_general_dilated`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flax import linen

from jaxdirect.conv import general


class Conv(linen.Conv):
    """`flax.linen.Conv` with `jaxdirect.conv_general_dilated` in the place of JAX's.

    The attributes, parameters and numbers are Flax's, `conv_general_dilated` among them; a model
    of the one layer takes the parameters of the other.

    Attributes:
        features: channels of the output.
        kernel_size: the filter's spatial extents; an integer for one dimension.
        strides: and whatever else `flax.linen.Conv` takes: padding (`"SAME"`, `"VALID"`,
            `"CIRCULAR"`, `"REFLECT"`, `"CAUSAL"` or pairs), input_dilation, kernel_dilation,
            feature_group_count, use_bias, mask, dtype, param_dtype, precision and more.
        conv_general_dilated: the convolution.

    The layer maps `[*batch, *spatial, channels]` to `[*batch, *spatial, features]`. Its parameters
    are `kernel`, `[*kernel_size, channels / feature_group_count, features]`, and `bias`.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from jaxdirect.nn.linen import Conv
        >>> layer = Conv(16, (3, 3), strides=2)
        >>> x = jnp.ones((8, 32, 32, 3))
        >>> layer.apply(layer.init(jax.random.key(0), x), x).shape
        (8, 16, 16, 16)
    """

    conv_general_dilated: Callable[..., Any] | None = general.conv_general_dilated
