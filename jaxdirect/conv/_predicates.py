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


def depthwise_few_float32_taps(geometry: Geometry, dtype: np.dtype, precision: int) -> bool:
    few = geometry.filter_height * geometry.filter_width <= 9
    return geometry.depthwise and dtype.itemsize == 4 and few and not strided(geometry)


def narrow_groups(geometry: Geometry, dtype: np.dtype, precision: int) -> bool:
    return dtype.itemsize == 2 and groups_of_at_most(32, geometry)


def narrow_groups_tf32(geometry: Geometry, dtype: np.dtype, precision: int) -> bool:
    return tf32(geometry, dtype, precision) and groups_of_at_most(24, geometry)


def groups_of_at_most(width: int, geometry: Geometry) -> bool:
    """Several groups of few channels, and images that keep a GPU busy."""
    widest = max(geometry.channels, geometry.out_channels) // geometry.groups
    large = geometry.batch * geometry.height * geometry.width * geometry.channels >= 4e6
    return geometry.groups > 1 and widest <= width and large


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


def tiny(geometry: Geometry, dtype: np.dtype, precision: int) -> bool:
    return geometry.flops < 1e8


def small(geometry: Geometry, dtype: np.dtype, precision: int) -> bool:
    return geometry.flops < (1.5e9 if dtype.itemsize == 4 else 1.5e8)


def small_and_accurate(geometry: Geometry, dtype: np.dtype, precision: int) -> bool:
    return small(geometry, dtype, precision) and accurate(geometry, dtype, precision)


def small_float32(geometry: Geometry, dtype: np.dtype, precision: int) -> bool:
    """With enough in them for the GPU to be busy all the same."""
    enough = geometry.flops >= 1.8e8
    return small(geometry, dtype, precision) and dtype.itemsize == 4 and enough


def accurate(geometry: Geometry, dtype: np.dtype, precision: int) -> bool:
    return dtype.itemsize == 4 and precision == 1


def accurate_to_many(geometry: Geometry, dtype: np.dtype, precision: int) -> bool:
    """From 256 to 512 channels and more, with enough pixels for cuDNN's transforms to pay."""
    many = geometry.channels * geometry.out_channels >= 256 * 512
    pixels = geometry.batch * geometry.out_height * geometry.out_width
    return accurate(geometry, dtype, precision) and many and pixels >= 15_000


def accurate_and_large(geometry: Geometry, dtype: np.dtype, precision: int) -> bool:
    return many_taps(geometry, dtype, precision) and accurate(geometry, dtype, precision)


def many_taps(geometry: Geometry, dtype: np.dtype, precision: int) -> bool:
    taps = geometry.filter_height * geometry.filter_width
    return taps >= 25 and not strided(geometry)


def strided(geometry: Geometry) -> bool:
    return geometry.stride_h * geometry.stride_w > 1


def tf32(geometry: Geometry, dtype: np.dtype, precision: int) -> bool:
    return dtype.itemsize == 4 and precision == 0


def tf32_to_many_channels(geometry: Geometry, dtype: np.dtype, precision: int) -> bool:
    return tf32(geometry, dtype, precision) and geometry.out_channels > 64
