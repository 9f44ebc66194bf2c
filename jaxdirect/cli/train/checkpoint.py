"""Checkpoints of a run: Orbax writes them, a checksum of every array guards them."""

from __future__ import annotations

import dataclasses
import zlib
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from jaxdirect.cli.train.loop import Epoch
from jaxdirect.cli.train.step import TrainState

_KEPT = 2


class Checkpoints:
    """The checkpoints in a run's folder, one per epoch, the newest two kept.

    Args:
        folder: of the run.
        settings: what a run must share with the one it continues: plain JSON values.
    """

    def __init__(self, folder: Path, settings: dict[str, Any]) -> None:
        self._folder = folder.absolute() / "checkpoints"
        self._settings = settings
        self._manager = ocp.CheckpointManager(
            self._folder, options=ocp.CheckpointManagerOptions(max_to_keep=_KEPT)
        )

    def latest(self) -> int | None:
        """The number of the newest checkpoint's epoch."""
        return self._manager.latest_step()

    def save(self, state: TrainState, history: list[Epoch]) -> None:
        """Writes the state after the last epoch of `history`, while training goes on."""
        arrays = _arrays(state)
        record = {
            "settings": self._settings,
            "history": [dataclasses.asdict(epoch) for epoch in history],
            "checksums": _checksums(arrays),
        }
        self._manager.save(
            history[-1].epoch,
            args=ocp.args.Composite(
                state=ocp.args.StandardSave(arrays), record=ocp.args.JsonSave(record)
            ),
        )

    def restore(self, like: TrainState) -> tuple[TrainState, list[Epoch]]:
        """The newest checkpoint.

        Args:
            like: a state of the same structure.

        Raises:
            ValueError: there is none, it is of other settings, or it is damaged.
        """
        step = self.latest()
        if step is None:
            raise ValueError(
                f"--resume found no checkpoint in {self._folder}; check --output, or start anew "
                "without --resume"
            )
        record = self._read(step, "record", ocp.args.JsonRestore())
        try:
            settings, checksums = record["settings"], record["checksums"]
            history = [Epoch(**epoch) for epoch in record["history"]]
        except (KeyError, TypeError) as error:
            raise self._damaged(step, f"its record lacks {error}") from error
        self._compare(settings)
        expected = _arrays(like)
        arrays = self._read(step, "state", ocp.args.StandardRestore(expected))
        arrays = {name: np.asarray(array) for name, array in arrays.items()}
        if _checksums(arrays) != checksums:
            raise self._damaged(step, "an array differs from what was written")
        leaves = [jax.numpy.asarray(arrays[name]) for name in expected]
        return jax.tree.unflatten(jax.tree.structure(like), leaves), history

    def close(self) -> None:
        """Waits until everything is written."""
        self._manager.wait_until_finished()
        self._manager.close()

    def _read(self, step: int, item: str, argument: Any) -> Any:
        try:
            return self._manager.restore(step, args=ocp.args.Composite(**{item: argument}))[item]
        # What a damaged file raises depends on the file: JSON, zarr, tensorstore, the system.
        except Exception as error:
            raise self._damaged(step, f"{type(error).__name__}: {error}") from error

    def _damaged(self, step: int, reason: str) -> ValueError:
        return ValueError(
            f"--resume cannot read checkpoint {self._folder / str(step)}: "
            f"{reason.splitlines()[0][:300]}; delete that folder to continue from the one "
            "before, or start anew without --resume"
        )

    def _compare(self, settings: dict[str, Any]) -> None:
        names = sorted(settings.keys() | self._settings.keys())
        differences = [
            f"{name} is {self._settings.get(name)}, was {settings.get(name)}"
            for name in names
            if settings.get(name) != self._settings.get(name)
        ]
        if differences:
            raise ValueError(
                f"--resume must use the settings of the run in {self._folder.parent}, but "
                f"{'; '.join(differences)}; use the same flags and data, or another --output"
            )


def _arrays(state: TrainState) -> dict[str, np.ndarray]:
    """The leaves by their paths, copied: training goes on in donated buffers meanwhile."""
    leaves, _ = jax.tree.flatten_with_path(state)
    return {jax.tree_util.keystr(path): np.array(leaf) for path, leaf in leaves}


def _checksums(arrays: dict[str, np.ndarray]) -> dict[str, int]:
    return {name: zlib.crc32(np.ascontiguousarray(array).data) for name, array in arrays.items()}
