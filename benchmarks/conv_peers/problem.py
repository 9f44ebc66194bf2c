"""What a case computes: shapes, padding, operations and bytes. No JAX in here."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from .shapes import LAYERS, Layer, small

# Of an H200, measured on a square matrix product and on a copy; FP32 accuracy takes six products
# of bfloat16 parts. Operations and bytes a second.
PEAK = {"fp32": 790e12 / 6, "tf32": 395e12, "bf16": 790e12}
HBM_BYTES_PER_S = 4.3e12
L2_BYTES = 60e6
# The matrices multiplied before a timing, their side and how often: about 20 ms.
BUSY = (8192, 12)
PROGRAM_S = 600e-6  # of a program at the floor
MOST_SETS = 64

MODES = ("fp32", "tf32", "bf16")
PASSES = ("forward", "dgrad", "wgrad")
# The operands of each pass, and what it returns.
OPERANDS = {"forward": "xw", "dgrad": "yw", "wgrad": "xy", "training": "xwy"}
RESULTS = {"forward": "y", "dgrad": "x", "wgrad": "w", "training": "yxw"}

Pads = tuple[tuple[int, int], tuple[int, int]]


@dataclasses.dataclass(frozen=True)
class Problem:
    """One pass of one layer.

    Args:
        layer: the convolution.
        batch: N.
        padding: "valid", "same" or "causal" (as much before an axis as its kernel is longer
            than 1).
        mode: "fp32" (float32 accuracy), "tf32" (float32 operands that may be rounded to TF32) or
            "bf16".
    """

    layer: Layer
    batch: int
    padding: str
    mode: str

    @property
    def itemsize(self) -> int:
        return 2 if self.mode == "bf16" else 4

    @property
    def pads(self) -> Pads:
        """(low, high) of H and of W."""
        layer = self.layer
        sizes = (layer.height, layer.width)
        height, width = (self._pad(size, k) for size, k in zip(sizes, layer.kernel, strict=True))
        return height, width

    def _pad(self, size: int, k: int) -> tuple[int, int]:
        if self.padding == "valid":
            return 0, 0
        if self.padding == "causal":
            return k - 1, 0
        stride = self.layer.stride
        total = max((-(-size // stride) - 1) * stride + k - size, 0)
        return total // 2, total - total // 2

    @property
    def out(self) -> tuple[int, int]:
        """P and Q."""
        layer = self.layer
        sizes = (layer.height, layer.width)
        height, width = (
            (size + sum(pad) - k) // layer.stride + 1
            for size, pad, k in zip(sizes, self.pads, layer.kernel, strict=True)
        )
        return height, width

    def shape(self, operand: str) -> tuple[int, ...]:
        """Of x in NHWC, w in HWIO or y in NHWC."""
        layer = self.layer
        if operand == "w":
            return (*layer.kernel, layer.channels // layer.groups, layer.features)
        if operand == "x":
            return (self.batch, layer.height, layer.width, layer.channels)
        return (self.batch, *self.out, layer.features)

    def nbytes(self, operands: str) -> int:
        """Bytes of some operands together."""
        return sum(math.prod(self.shape(o)) for o in operands) * self.itemsize

    def flops(self, what: str) -> int:
        """Two a multiplication and addition; those with padding count like the others."""
        r, s, depth, _ = self.shape("w")
        one = 2 * math.prod(self.shape("y")) * r * s * depth
        return 3 * one if what == "training" else one

    def moved(self, what: str) -> int:
        """Bytes of the operands and results, each moved once in each pass."""
        if what == "training":  # the forward pass, then the gradients
            return self.nbytes("xwy") + self.nbytes("xwyxw")
        return self.nbytes(OPERANDS[what] + RESULTS[what])

    def floor_s(self, what: str) -> dict[str, float]:
        """Seconds that the operations take at the peak, and the bytes at the memory's rate."""
        compute = self.flops(what) / PEAK[self.mode]
        memory = self.moved(what) / HBM_BYTES_PER_S
        return {"operations_s": compute, "bytes_s": memory, "floor_s": max(compute, memory)}

    def copies(self, what: str) -> int:
        """How many sets of operands a timing goes through: more than four times the L2.

        At least 2. Short calls go through more of them, so that starting the program takes no
        time of its own. At most `MOST_SETS`, which for a batch of 1 may still fit the L2 (the
        record says so).
        """
        cold = 4 * L2_BYTES / self.nbytes(OPERANDS[what])
        long = PROGRAM_S / self.floor_s(what)["floor_s"]
        return max(2, min(MOST_SETS, math.ceil(max(cold, long))))


def make(params: dict[str, Any], is_small: bool) -> Problem:
    """The problem of a case's parameters; a small one where only the logic is checked."""
    layer, batch = LAYERS[params["layer"]], params["batch"]
    if is_small:
        layer, batch = small(layer), min(batch, 2)
    return Problem(layer, batch, params["padding"], params["mode"])
