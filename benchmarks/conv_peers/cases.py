"""The list of cases, the most important first."""

from __future__ import annotations

import dataclasses
from typing import Any

from .problem import MODES, PASSES
from .shapes import CAUSAL, DEPTHWISE, GROUPED, LAYERS, STEMS, STRIDED, TWELVE

BATCHES = (128, 32, 1)
WHOLE = ("forward", "training")


@dataclasses.dataclass(frozen=True)
class Case:
    """One row of the report.

    Args:
        kind: "layer", "torch" (measured by another process) or "resnet50".
        layer: name of the layer.
        batch, padding, mode: as in `problem.Problem`.
        what: "forward", "dgrad", "wgrad" or "training" (forward and both gradients).
        tier: 0 is the core table, 2 the rest.
    """

    kind: str
    layer: str
    batch: int
    padding: str
    mode: str
    what: str
    tier: int = 2

    @property
    def name(self) -> str:
        """Path-like; `--only` matches it."""
        parts = [self.layer, f"b{self.batch}", self.padding, self.mode, self.what]
        return "/".join(["torch", *parts] if self.kind == "torch" else parts)

    @property
    def group(self) -> tuple:
        """Cases of one group share operands and are compiled together."""
        return self.kind, self.layer, self.batch, self.padding, self.mode

    @property
    def seconds(self) -> float:
        """About what it takes on an H200 with 16 host cores; `--budget` counts with it.

        Most of it is cuDNN's choice of an algorithm, which the compiler makes one at a time.
        """
        if self.kind == "resnet50":
            return 60
        if self.kind == "torch":
            return 0.9
        if LAYERS[self.layer].depthwise:
            return 10
        if self.batch <= 8:
            return 2.0 if self.mode == "bf16" else 0.7
        large = {"conv4": 2.5, "conv7": 2.0, "conv8": 1.5}.get(self.layer, 1.0)
        return large * (3.0 if self.mode == "bf16" else 1.2)

    def params(self) -> dict[str, Any]:
        """All that tells it from others, for its record."""
        return dataclasses.asdict(self)


def gpu_cases() -> list[Case]:
    """The twelve layers in every batch, padding, mode and pass; grouped ones; a ResNet-50."""
    cases = []
    for padding in ("valid", "same"):
        for batch in BATCHES:
            tier = 0 if (batch, padding) == (128, "valid") else 2
            for layer in TWELVE:
                cases += [
                    Case(kind, layer.name, batch, padding, mode, what, tier)
                    for mode in MODES
                    for what in PASSES
                    for kind in ("torch", "layer")
                ]
    thin = [(layer.name, 128, "same") for layer in DEPTHWISE]
    thin += [(CAUSAL.name, batch, "causal") for batch in (1, 2, 4, 8)]
    for name, batch, padding in thin:
        cases += [
            Case(kind, name, batch, padding, mode, what)
            for mode in ("bf16", "fp32")
            for what in WHOLE
            for kind in ("torch", "layer")
        ]
    cases += [
        Case(kind, layer.name, 128, "same", mode, what)
        for layers, modes in ((DEPTHWISE, ("tf32",)), (GROUPED, ("bf16", "tf32")))
        for layer in layers
        for mode in modes
        for what in PASSES
        for kind in ("torch", "layer")
    ]
    cases.append(Case("resnet50", "resnet50", 128, "same", "bf16", "training"))
    return ordered([*cases, *small_cases()])


def small_cases() -> list[Case]:
    """Images in eights, and alone: where a kernel's tiles may be too few for the GPU."""
    cases = []
    for layer in (*TWELVE, *STRIDED):
        padding = "same" if layer in STRIDED else "valid"
        passes = ("forward", "wgrad") if layer.name in STEMS else PASSES
        for mode in ("fp32", "bf16"):
            cases += [Case("layer", layer.name, 8, padding, mode, what) for what in passes]
            if layer in STRIDED:  # the twelve are there
                cases.append(Case("layer", layer.name, 1, padding, mode, "forward"))
    return cases


def cpu_cases() -> list[Case]:
    """The twelve layers in batches of 8."""
    return [
        Case("layer", layer.name, 8, "valid", "fp32", what, 0)
        for layer in TWELVE
        for what in PASSES
    ]


def ordered(cases: list[Case]) -> list[Case]:
    """The core first; in each tier PyTorch, since it has a process of its own, then the quickest.

    Cases of one group stay together.
    """
    return sorted(cases, key=lambda case: (case.tier, case.kind != "torch", case.seconds))


__all__ = ["BATCHES", "Case", "cpu_cases", "gpu_cases", "ordered", "small_cases"]
