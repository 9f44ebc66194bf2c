"""The canonical convolution: two spatial dimensions, NHWC images, HWIO filters."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

# What native code is told beside the buffers, whose shapes say the rest.
WINDOW = ("stride_h", "stride_w", "pad_h", "pad_w", "dilation_h", "dilation_w", "groups")

# Coordinates are 32-bit in native code; its handlers refuse what is larger.
_MAX_EXTENT = 2**24
_MAX_PADDED = 2**30


@dataclasses.dataclass(frozen=True)
class Geometry:
    """The sizes of one convolution, shared by its three passes.

    `y[n, p, q, k]` is the sum over `u, v, c` of `x[n, h, w, g * C/G + c] * filter[u, v, c, k]` with
    `h = p * stride_h - pad_h + u * dilation_h`, `w` likewise, and `g = k / (K/G)`. The pads are
    the low sides and may be negative; the high sides follow from the output's extents.
    """

    batch: int  # N
    height: int  # H
    width: int  # W
    channels: int  # C
    filter_height: int  # R
    filter_width: int  # S
    out_height: int  # P
    out_width: int  # Q
    out_channels: int  # K
    stride_h: int = 1
    stride_w: int = 1
    pad_h: int = 0
    pad_w: int = 0
    dilation_h: int = 1
    dilation_w: int = 1
    groups: int = 1  # G

    @classmethod
    def of(
        cls, x: Sequence[int], filters: Sequence[int], y: Sequence[int], **window: int
    ) -> Geometry:
        """From the shapes `[N, H, W, C]`, `[R, S, C/G, K]` and `[N, P, Q, K]`."""
        return cls(*x, *filters[:2], *y[1:], **window)

    @property
    def x_shape(self) -> tuple[int, int, int, int]:
        """`[N, H, W, C]`."""
        return self.batch, self.height, self.width, self.channels

    @property
    def filter_shape(self) -> tuple[int, int, int, int]:
        """`[R, S, C/G, K]`."""
        return (
            self.filter_height,
            self.filter_width,
            self.channels // self.groups,
            self.out_channels,
        )

    @property
    def y_shape(self) -> tuple[int, int, int, int]:
        """`[N, P, Q, K]`."""
        return self.batch, self.out_height, self.out_width, self.out_channels

    @property
    def window(self) -> dict[str, int]:
        """The attributes of `WINDOW`."""
        return {name: getattr(self, name) for name in WINDOW}

    @property
    def padding(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """The padding `(low, high)` of height and width that gives just `[P, Q]`."""

        reach_h = (self.out_height - 1) * self.stride_h + (self.filter_height - 1) * self.dilation_h
        reach_w = (self.out_width - 1) * self.stride_w + (self.filter_width - 1) * self.dilation_w
        return (
            (self.pad_h, reach_h + 1 - self.height - self.pad_h),
            (self.pad_w, reach_w + 1 - self.width - self.pad_w),
        )

    @property
    def depthwise(self) -> bool:
        """Whether every channel has its own filter: `G = C = K`."""
        return self.groups == self.channels == self.out_channels

    @property
    def flops(self) -> int:
        """Two for every product of a pass, those with padding included."""
        taps = self.filter_height * self.filter_width * (self.channels // self.groups)
        return 2 * self.batch * self.out_height * self.out_width * self.out_channels * taps

    def unfit(self) -> str | None:
        """Why no native code can take it, or None."""
        shapes = (*self.x_shape, *self.filter_shape, *self.y_shape)
        if 0 in shapes:
            return "an array is empty"
        steps = self.stride_h, self.stride_w, self.dilation_h, self.dilation_w
        if min(steps) < 1:
            return "a stride or a dilation is not positive"
        window = [abs(value) for value in self.window.values()]
        padded = (
            self.out_height * self.stride_h + self.filter_height * self.dilation_h,
            self.out_width * self.stride_w + self.filter_width * self.dilation_w,
        )
        if max(*shapes, *window) > _MAX_EXTENT or max(padded) > _MAX_PADDED:
            return "an extent is past 32-bit coordinates"
        return None

    def __str__(self) -> str:
        x, filters, y = (
            "x".join(map(str, shape)) for shape in (self.x_shape, self.filter_shape, self.y_shape)
        )
        window = ", ".join(
            f"{name} {value}"
            for name, value in self.window.items()
            if value != (0 if name.startswith("pad") else 1)
        )
        return f"{x} * {filters} -> {y}" + (f" ({window})" if window else "")
