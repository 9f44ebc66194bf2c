"""The three passes of a convolution in float64, tap by tap. NumPy alone."""

from __future__ import annotations

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class Window:
    """How filters lie over images: pairs for height and width; `pads` are the low sides."""

    strides: tuple[int, int] = (1, 1)
    pads: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1


def passes(x, filters, y_bar, window):
    """Of x [N, H, W, C], filters [R, S, C/G, K] and y_bar [N, P, Q, K]: y, x_bar, filters_bar."""
    x, filters, y_bar = (np.asarray(array).astype(np.float64) for array in (x, filters, y_bar))
    (n, height, width, channels), (_, high, wide, features) = x.shape, y_bar.shape
    groups = window.groups
    each, of_each = channels // groups, features // groups
    y = np.zeros((n, high, wide, groups, of_each))
    x_bar = np.zeros((n, height, width, groups, each))
    filters_bar = np.zeros((*filters.shape[:2], each, groups, of_each))
    parts = filters.reshape(filters_bar.shape)
    for u, v in np.ndindex(*filters.shape[:2]):
        p, h = _inside(high, height, u, 0, window)
        q, w = _inside(wide, width, v, 1, window)
        at, out = np.ix_(range(n), h, w), np.ix_(range(n), p, q)
        seen = x.reshape(x_bar.shape)[at]
        bar = y_bar.reshape(y.shape)[out]
        y[out] += np.einsum("nhwgc,cgk->nhwgk", seen, parts[u, v])
        x_bar[at] += np.einsum("nhwgk,cgk->nhwgc", bar, parts[u, v])
        filters_bar[u, v] = np.einsum("nhwgc,nhwgk->cgk", seen, bar)
    return y.reshape(y_bar.shape), x_bar.reshape(x.shape), filters_bar.reshape(filters.shape)


def _inside(outputs, inputs, tap, axis, window):
    """The outputs along an axis whose tap lies in the image, and where."""
    places = np.arange(outputs)
    read = places * window.strides[axis] - window.pads[axis] + tap * window.dilation[axis]
    inside = (read >= 0) & (read < inputs)
    return places[inside], read[inside]


def errors(got, want, magnitudes):
    """Of each pass: the largest error of a component over the same sum of absolute values."""
    tiny = np.finfo(np.float64).tiny
    return [
        float(
            (np.abs(np.asarray(one).astype(np.float64) - exact) / np.maximum(size, tiny)).max(
                initial=0
            )
        )
        for one, exact, size in zip(got, want, magnitudes, strict=True)
    ]
