"""The options of `jaxdirect train`."""

from __future__ import annotations

import argparse
import dataclasses
import math
from pathlib import Path

MODELS = ("sage",)
# What may differ between a run and its continuation.
_NOT_SETTINGS = ("output", "resume", "device", "cache", "edges", "features", "labels")


@dataclasses.dataclass(frozen=True)
class Options:
    """One training run.

    Attributes:
        model: name of the network.
        feature_dim: hashed bins of WordNet's glosses; a user's own features have their own.
        fanout: neighbours sampled per hop while training and validating.
        eval_fanout: the same for the test nodes at the end.
        epochs, batch_size, hidden, learning_rate, dropout, seed: as usual.
        output: folder of the run; None picks a new one.
        resume: continue from the newest checkpoint in `output`.
        edges, features, labels: a user's own graph, all three or none.
        device: "cpu", "gpu" or None, JAX's choice.
        cache: share of the features to copy to the device, those of the most drawn nodes.
    """

    model: str = "sage"
    feature_dim: int = 1024
    fanout: tuple[int, ...] = (4, 3)
    eval_fanout: tuple[int, ...] = (15, 10)
    epochs: int = 4
    batch_size: int = 256
    hidden: int = 128
    learning_rate: float = 6e-3
    dropout: float = 0.1
    seed: int = 0
    output: Path | None = None
    resume: bool = False
    edges: Path | None = None
    features: Path | None = None
    labels: Path | None = None
    device: str | None = None
    cache: float = 0.0

    def settings(self) -> dict[str, object]:
        """What a continued run must share with the run it continues, as JSON holds it."""
        values = dataclasses.asdict(self)
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in values.items()
            if name not in _NOT_SETTINGS
        }


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """One flag per field of `Options`."""
    add = parser.add_argument
    default = Options()
    add("--model", choices=MODELS, default=default.model, help="network")
    add("--epochs", type=int, default=default.epochs, help="passes over the training nodes")
    add("--batch-size", type=int, default=default.batch_size, help="training nodes per step")
    add("--fanout", default=_joined(default.fanout), help="neighbours sampled per hop")
    add("--eval-fanout", default=_joined(default.eval_fanout), help="the same for the final test")
    add("--hidden", type=int, default=default.hidden, help="width of the hidden layers")
    add("--learning-rate", type=float, default=default.learning_rate, help="peak, of AdamW")
    add("--dropout", type=float, default=default.dropout, help="share of hidden values dropped")
    add("--feature-dim", type=int, default=default.feature_dim, help="bins for WordNet's glosses")
    add("--seed", type=int, default=default.seed, help="of split, weights, batches and samples")
    add("--output", type=Path, help="folder for checkpoints, metrics.json and the picture")
    add("--resume", action="store_true", help="continue from the newest checkpoint in --output")
    add("--edges", type=Path, help="a graph of your own: .npy, .npz or text")
    add("--features", type=Path, help="its features [num_nodes, dim]: .npy or .npz")
    add("--labels", type=Path, help="its labels [num_nodes], -1 = none: .npy, .npz or text")
    add("--device", choices=("cpu", "gpu"), help="default: what JAX picks")
    cached = "share of the features, of the nodes drawn most, to copy to the device"
    add("--cache", type=float, default=default.cache, help=cached)


def from_arguments(arguments: argparse.Namespace) -> Options:
    """The checked options.

    Raises:
        ValueError: a value is out of range, or flags do not go together.
    """
    values = {field.name: getattr(arguments, field.name) for field in dataclasses.fields(Options)}
    values["fanout"] = _fanout("--fanout", values["fanout"])
    values["eval_fanout"] = _fanout("--eval-fanout", values["eval_fanout"])
    options = Options(**values)
    for name in ("epochs", "batch_size", "hidden", "feature_dim"):
        if getattr(options, name) < 1:
            raise ValueError(f"{_flag(name)} must be at least 1, got {getattr(options, name)}")
    if not 0 <= options.seed < 2**31:
        raise ValueError(f"--seed must be in [0, 2^31), got {options.seed}")
    if not (math.isfinite(options.learning_rate) and options.learning_rate > 0):
        raise ValueError(f"--learning-rate must be above 0, got {options.learning_rate}")
    if not 0 <= options.dropout < 1:
        raise ValueError(f"--dropout must be in [0, 1), got {options.dropout}")
    if not 0 <= options.cache <= 1:
        raise ValueError(f"--cache must be in [0, 1], a share, got {options.cache}")
    if len(options.fanout) != len(options.eval_fanout):
        raise ValueError(
            f"--eval-fanout must have as many hops as --fanout, got {len(options.eval_fanout)} "
            f"and {len(options.fanout)}; the network has one layer per hop"
        )
    own = [name for name in ("edges", "features", "labels") if getattr(options, name) is None]
    if 0 < len(own) < 3:
        raise ValueError(
            f"a graph of your own needs --edges, --features and --labels, got no "
            f"{' and no '.join(_flag(name) for name in own)}"
        )
    if options.resume and options.output is None:
        raise ValueError("--resume needs --output, the folder of the run to continue")
    return options


def _joined(fanout: tuple[int, ...]) -> str:
    return ",".join(map(str, fanout))


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _fanout(flag: str, text: str) -> tuple[int, ...]:
    try:
        fanout = tuple(int(part) for part in text.split(","))
    except ValueError:
        fanout = ()
    if not fanout or min(fanout) < 1:
        raise ValueError(
            f"{flag} must be positive integers parted by commas, one per hop, such as 10,5; "
            f"got {text!r}"
        )
    return fanout
