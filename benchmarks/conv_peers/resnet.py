"""ResNet-50 and its training step in plain JAX, the convolution and the layout being parameters.

Version 1.5 (the stride is on the 3x3 convolution). Weights, batch norm and the optimizer are
float32, activations and convolutions bfloat16.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .programs import NUMBERS

MOMENTUM, RATE, DECAY, EPSILON = 0.9, 0.1, 0.9, 1e-5

Conv = Callable[[jax.Array, jax.Array, int], jax.Array]


@dataclasses.dataclass(frozen=True)
class Config:
    """Sizes.

    Args:
        blocks: in each stage.
        width: channels of the stem.
        size: height and width of an image.
        classes: of the labels.
    """

    blocks: tuple[int, ...] = (3, 4, 6, 3)
    width: int = 64
    size: int = 224
    classes: int = 1000


RESNET50 = Config()
SMALL = Config(blocks=(1, 1), width=8, size=32, classes=10)


def convolution(function: Callable, layout: str, **options: Any) -> Conv:
    """conv(x, w, stride) by a function with the arguments of JAX's; half the kernel is padded."""

    def conv(x: jax.Array, w: jax.Array, stride: int) -> jax.Array:
        size = w.shape[2 if layout == "nchw" else 0] // 2
        pads = ((size, size),) * 2
        return function(x, w, (stride,) * 2, pads, dimension_numbers=NUMBERS[layout][1], **options)

    return conv


def _layers(config: Config) -> dict[str, tuple[int, int, int]]:
    """Kernel size, channels and features of every convolution, by name."""
    found = {"stem": (7, 3, config.width)}
    channels = config.width
    for stage, blocks in enumerate(config.blocks):
        inner = config.width << stage
        for block in range(blocks):
            name = f"{stage}.{block}"
            found[f"{name}.a"] = (1, channels, inner)
            found[f"{name}.b"] = (3, inner, inner)
            found[f"{name}.c"] = (1, inner, 4 * inner)
            if block == 0:
                found[f"{name}.skip"] = (1, channels, 4 * inner)
            channels = 4 * inner
    return found


def init(layout: str, config: Config) -> dict[str, Any]:
    """Parameters, running statistics of batch norm, and momenta; the same in both layouts."""
    rng = np.random.default_rng(0)
    parameters: dict[str, Any] = {}
    statistics = {}
    for name, (k, channels, features) in _layers(config).items():
        w = rng.standard_normal((k, k, channels, features), np.float32)
        w *= (2 / (k * k * channels)) ** 0.5
        w = w.transpose(3, 2, 0, 1) if layout == "nchw" else w
        ones, zeros = np.ones(features, np.float32), np.zeros(features, np.float32)
        parameters[name] = {"w": w, "scale": ones, "bias": zeros}
        statistics[name] = {"mean": zeros, "variance": ones}
    features = 4 * config.width << (len(config.blocks) - 1)
    head = rng.standard_normal((features, config.classes), np.float32) * 0.01
    parameters["head"] = {"w": head, "bias": np.zeros(config.classes, np.float32)}
    momenta = jax.tree.map(np.zeros_like, parameters)
    state = {"parameters": parameters, "statistics": statistics, "momenta": momenta}
    return jax.device_put(state)


def batch(layout: str, config: Config, size: int, seed: int) -> tuple[jax.Array, jax.Array]:
    """Random images in bfloat16 and labels."""
    rng = np.random.default_rng(seed)
    shape = (size, config.size, config.size, 3)
    images = rng.standard_normal(shape, np.float32)
    images = images.transpose(0, 3, 1, 2) if layout == "nchw" else images
    labels = rng.integers(0, config.classes, size, np.int32)
    return jnp.asarray(images, jnp.bfloat16), jnp.asarray(labels)


def _norm(x: jax.Array, layer: dict, old: dict, layout: str) -> tuple[jax.Array, dict]:
    """Batch norm in float32 over the batch and all pixels; the new running statistics."""
    channel = 1 if layout == "nchw" else 3
    axes = tuple(a for a in range(4) if a != channel)
    shape = [-1 if a == channel else 1 for a in range(4)]
    wide = x.astype(jnp.float32)
    mean = wide.mean(axes)
    variance = (wide * wide).mean(axes) - mean * mean
    scale = layer["scale"] * jax.lax.rsqrt(variance + EPSILON)
    shift = layer["bias"] - mean * scale
    new = {"mean": mean, "variance": variance}
    new = jax.tree.map(lambda a, b: DECAY * a + (1 - DECAY) * b, old, new)
    return (wide * scale.reshape(shape) + shift.reshape(shape)).astype(x.dtype), new


def logits(
    conv: Conv, layout: str, config: Config, parameters: dict, statistics: dict, x: jax.Array
) -> tuple[jax.Array, dict]:
    """[batch, classes] of a training pass, and the new running statistics."""
    new = {}

    def layer(name: str, x: jax.Array, stride: int = 1) -> jax.Array:
        x = conv(x, parameters[name]["w"].astype(jnp.bfloat16), stride)
        x, new[name] = _norm(x, parameters[name], statistics[name], layout)
        return x

    x = jax.nn.relu(layer("stem", x, 2))
    spatial = (2, 3) if layout == "nchw" else (1, 2)
    window, strides, pads = ([1] * 4, [1] * 4, [(0, 0)] * 4)
    for axis in spatial:
        window[axis], strides[axis], pads[axis] = 3, 2, (1, 1)
    lowest = np.array(-np.inf, x.dtype)
    x = jax.lax.reduce_window(x, lowest, jax.lax.max, window, strides, pads)
    for stage, blocks in enumerate(config.blocks):
        for block in range(blocks):
            name, stride = f"{stage}.{block}", 2 if stage and not block else 1
            y = jax.nn.relu(layer(f"{name}.a", x))
            y = jax.nn.relu(layer(f"{name}.b", y, stride))
            y = layer(f"{name}.c", y)
            skip = x if block else layer(f"{name}.skip", x, stride)
            x = jax.nn.relu(y + skip)
    pooled = x.astype(jnp.float32).mean(spatial)
    return pooled @ parameters["head"]["w"] + parameters["head"]["bias"][None], new


def step(conv: Conv, layout: str, config: Config) -> Callable:
    """f(state, images, labels) -> (the new state, the loss): SGD with momentum."""

    def loss(parameters: dict, statistics: dict, images: jax.Array, labels: jax.Array):
        out, new = logits(conv, layout, config, parameters, statistics, images)
        return -jax.nn.log_softmax(out)[jnp.arange(labels.size), labels].mean(), new

    def run(state: dict, images: jax.Array, labels: jax.Array) -> tuple[dict, jax.Array]:
        value = jax.value_and_grad(loss, has_aux=True)
        (total, new), gradients = value(state["parameters"], state["statistics"], images, labels)
        momenta = jax.tree.map(lambda m, g: MOMENTUM * m + g, state["momenta"], gradients)
        parameters = jax.tree.map(lambda p, m: p - RATE * m, state["parameters"], momenta)
        return {"parameters": parameters, "statistics": new, "momenta": momenta}, total

    return run
