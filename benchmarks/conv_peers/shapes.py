"""The layers. No JAX in here: PyTorch's process reads it too."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class Layer:
    """One convolution without its batch.

    Args:
        name: first part of a case's name.
        channels, height, width: C, H and W of x.
        features: K, channels of y.
        kernel: R and S.
        stride: of both axes.
        groups: G; C for a depthwise convolution.
        one_d: a convolution over time only; its arrays have no H.
    """

    name: str
    channels: int
    height: int
    width: int
    features: int
    kernel: tuple[int, int]
    stride: int = 1
    groups: int = 1
    one_d: bool = False

    @property
    def depthwise(self) -> bool:
        return self.groups > 1 and self.groups == self.channels == self.features


def _square(name: str, channels: int, size: int, features: int, k: int, stride: int) -> Layer:
    return Layer(name, channels, size, size, features, (k, k), stride)


def _depthwise(name: str, channels: int, size: int, k: int, stride: int) -> Layer:
    return Layer(name, channels, size, size, channels, (k, k), stride, groups=channels)


def _grouped(name: str, channels: int, size: int, groups: int, stride: int = 1) -> Layer:
    return Layer(name, channels, size, size, channels, (3, 3), stride, groups)


# The twelve of the im2win papers, from AlexNet, OverFeat, ZF, VGG, GoogLeNet and ResNet.
TWELVE = (
    _square("conv1", 3, 227, 96, 11, 4),
    _square("conv2", 3, 231, 96, 11, 4),
    _square("conv3", 3, 227, 64, 7, 2),
    _square("conv4", 64, 224, 64, 7, 2),
    _square("conv5", 96, 24, 256, 5, 1),
    _square("conv6", 256, 12, 512, 3, 1),
    _square("conv7", 3, 224, 64, 3, 1),
    _square("conv8", 64, 112, 128, 3, 1),
    _square("conv9", 64, 56, 64, 3, 1),
    _square("conv10", 128, 28, 128, 3, 1),
    _square("conv11", 256, 14, 256, 3, 1),
    _square("conv12", 512, 7, 512, 3, 1),
)
STEMS = ("conv1", "conv2", "conv3", "conv7")
BODY = tuple(layer.name for layer in TWELVE if layer.name not in STEMS)

# ResNet-50's 3 x 3 convolutions with a stride (version 1.5), the first of its last three stages.
# Those without are conv9 to conv12 with padding "same".
STRIDED = (
    _square("res3", 128, 56, 128, 3, 2),
    _square("res4", 256, 28, 256, 3, 2),
    _square("res5", 512, 14, 512, 3, 2),
)

DEPTHWISE = (
    _depthwise("depthwise7x7", 256, 56, 7, 1),
    _depthwise("depthwise3x3", 256, 56, 3, 1),
    _depthwise("depthwise3x3s2", 256, 56, 3, 2),
)
# The 3 x 3 layers of a ResNeXt 32x4d, groups of 4, 8, 16 and 32 channels; of a RegNet, 24; and few
# groups of more.
GROUPED = (
    _grouped("grouped32x4", 128, 56, 32),
    _grouped("grouped32x8s2", 256, 56, 32, 2),
    _grouped("grouped32x8", 256, 28, 32),
    _grouped("grouped32x16", 512, 14, 32),
    _grouped("grouped32x32", 1024, 7, 32),
    _grouped("grouped8x24", 192, 28, 8),
    _grouped("grouped4x32", 128, 56, 4),
    _grouped("grouped4x64", 256, 56, 4),
)
CAUSAL = Layer("causal4", 4096, 1, 8192, 4096, (1, 4), groups=4096, one_d=True)

LAYERS = {layer.name: layer for layer in (*TWELVE, *STRIDED, *DEPTHWISE, *GROUPED, CAUSAL)}


def small(layer: Layer) -> Layer:
    """The same kind of layer at a size that takes no time; its figures mean nothing."""
    channels = min(layer.channels, 8)
    features = channels if layer.depthwise else 8
    r, s = layer.kernel
    return dataclasses.replace(
        layer,
        channels=channels,
        features=features,
        groups=channels if layer.depthwise else min(layer.groups, 2),
        height=1 if layer.one_d else r + 3 * layer.stride + 1,
        width=s + 3 * layer.stride + 1,
    )
