"""What the rules ask of a convolution: `(geometry, dtype, precision)` to whether it is so.

Precision 0 lets float32 products be rounded as TF32, 1 is float32 accuracy.
"""

from __future__ import annotations

import numpy as np

from jaxdirect.conv.geometry import Geometry


def anything(geometry: Geometry, dtype: np.dtype, precision: int) -> bool:
    return True


def depthwise(geometry: Geometry, dtype: np.dtype, precision: int) -> bool:
    return geometry.depthwise


def depthwise_16_bits(geometry: Geometry, dtype: np.dtype, precision: int) -> bool:
    return geometry.depthwise and dtype.itemsize == 2


def narrow_groups(geometry: Geometry, dtype: np.dtype, precision: int) -> bool:
    """Several groups of few channels of 16 bits, and images that keep a GPU busy."""
    widest = max(geometry.channels, geometry.out_channels) // geometry.groups
    large = geometry.batch * geometry.height * geometry.width * geometry.channels >= 4e6
    return geometry.groups > 1 and widest <= 24 and dtype.itemsize == 2 and large


def grouped(geometry: Geometry, dtype: np.dtype, precision: int) -> bool:
    return geometry.groups > 1


def pointwise(geometry: Geometry, dtype: np.dtype, precision: int) -> bool:
    return geometry.filter_height * geometry.filter_width == 1


def one_channel(geometry: Geometry, dtype: np.dtype, precision: int) -> bool:
    return geometry.groups == 1 and min(geometry.channels, geometry.out_channels) == 1


def stem(geometry: Geometry, dtype: np.dtype, precision: int) -> bool:
    return geometry.groups == 1 and geometry.channels <= 8


def few_channels(geometry: Geometry, dtype: np.dtype, precision: int) -> bool:
    return min(geometry.channels, geometry.out_channels) < 32


def small(geometry: Geometry, dtype: np.dtype, precision: int) -> bool:
    return geometry.flops < 5e9


def accurate(geometry: Geometry, dtype: np.dtype, precision: int) -> bool:
    return dtype.itemsize == 4 and precision == 1


def accurate_and_large(geometry: Geometry, dtype: np.dtype, precision: int) -> bool:
    taps = geometry.filter_height * geometry.filter_width
    strided = geometry.stride_h * geometry.stride_w > 1
    return taps >= 25 and not strided and accurate(geometry, dtype, precision)


def tf32(geometry: Geometry, dtype: np.dtype, precision: int) -> bool:
    return dtype.itemsize == 4 and precision == 0


def tf32_over_few_pixels(geometry: Geometry, dtype: np.dtype, precision: int) -> bool:
    return tf32(geometry, dtype, precision) and pixels(geometry) < 8192


def pixels(geometry: Geometry) -> int:
    return geometry.batch * geometry.out_height * geometry.out_width
