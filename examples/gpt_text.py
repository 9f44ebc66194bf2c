"""Real text for train_gpt.py, as bytes: the source of Python's standard library, or a file."""

from __future__ import annotations

import sysconfig
from pathlib import Path

import numpy as np

HELD_OUT = 0.05
# Tests are half of the library, and packages that somebody installed are no part of it.
NOT_LIBRARY = {"test", "tests", "idle_test", "site-packages", "dist-packages"}


def read(path: Path | None = None) -> np.ndarray:
    """A text as bytes, uint8 `[length]`: that of a file, or of the standard library's modules."""
    if path is not None:
        return np.fromfile(path, np.uint8)
    library = Path(sysconfig.get_paths()["stdlib"])
    modules = (path.relative_to(library) for path in library.rglob("*.py"))
    # By name, so that the same Python gives the same text everywhere.
    names = sorted(m.as_posix() for m in modules if NOT_LIBRARY.isdisjoint(m.parts))
    return np.frombuffer(b"".join((library / name).read_bytes() for name in names), np.uint8)


def split(text: np.ndarray, length: int) -> tuple[np.ndarray, np.ndarray]:
    """The text to learn and, from its end, what is held out.

    Raises:
        ValueError: a part is shorter than a sequence and the byte after it.
    """
    at = len(text) - int(HELD_OUT * len(text))
    for part, what in ((text[:at], "to learn"), (text[at:], "held out")):
        if len(part) <= length:
            raise ValueError(
                f"the text {what} has {len(part)} bytes of {len(text)}; "
                f"give a longer text, or sequences shorter than --length {length}"
            )
    return text[:at], text[at:]


def windows(text: np.ndarray, starts: np.ndarray, length: int) -> np.ndarray:
    """Sequences, each with the byte after it: `[*starts.shape, length + 1]`."""
    return text[starts[..., None] + np.arange(length + 1)]


def drawn(text: np.ndarray, length: int, shape: tuple[int, ...], seed: int) -> np.ndarray:
    """Sequences from anywhere in a text: `[*shape, length + 1]`."""
    starts = np.random.default_rng(seed).integers(0, len(text) - length, shape)
    return windows(text, starts, length)


def spread(text: np.ndarray, length: int, shape: tuple[int, ...]) -> np.ndarray:
    """Sequences from its first byte to its last, at equal distances: `[*shape, length + 1]`."""
    starts = np.linspace(0, len(text) - length - 1, int(np.prod(shape)), dtype=np.int64)
    return windows(text, starts.reshape(shape), length)
