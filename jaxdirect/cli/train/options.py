"""The options of `jaxdirect train`."""

from __future__ import annotations

import argparse
import dataclasses
import math
from pathlib import Path

MODELS = ("sage", "rgcn", "rgat", "hgt")
DATA = ("wordnet", "debian")
# What may differ between a run and its continuation.
_FILES = ("edges", "features", "labels", "node_types", "packages")
_NOT_SETTINGS = ("output", "resume", "device", "cache", *_FILES)
# Defaults that depend on how a network is trained: in batches, or on the whole graph at once.
_SAMPLED = {"epochs": 4, "hidden": 128, "learning_rate": 6e-3, "validate_every": 1}
_WHOLE = {"epochs": 80, "hidden": 64, "learning_rate": 2e-2, "validate_every": 10}


@dataclasses.dataclass(frozen=True)
class Options:
    """One training run.

    Attributes:
        model: name of the network.
        data: name of the data set, where there are no files of a user's own.
        sampled: whether a relational network learns from sampled batches, as "sage" always does,
            rather than from the whole graph at once.
        layers: convolutions over the whole graph; with samples there is one per hop.
        heads: attention heads of "rgat" and "hgt".
        feature_dim: hashed bins of words; a user's own features have their own.
        fanout: neighbours sampled per hop while training and validating.
        eval_fanout: the same for the test nodes at the end.
        epochs, batch_size, hidden, learning_rate, dropout, seed: as usual.
        validate_every: epochs between validations; a checkpoint follows each.
        output: folder of the run; None picks a new one.
        resume: continue from the newest checkpoint in `output`.
        edges, features, labels: a user's own graph, all three or none.
        node_types: of a user's own nodes, for "hgt".
        packages: Debian's index; None: that of this machine.
        device: "cpu", "gpu" or None, JAX's choice.
        cache: share of the features to copy to the device, those of the most drawn nodes.
    """

    model: str = "sage"
    data: str = "wordnet"
    sampled: bool = True
    layers: int = 2
    heads: int = 4
    feature_dim: int = 1024
    fanout: tuple[int, ...] = (4, 3)
    eval_fanout: tuple[int, ...] = (15, 10)
    epochs: int = _SAMPLED["epochs"]
    batch_size: int = 256
    hidden: int = _SAMPLED["hidden"]
    learning_rate: float = _SAMPLED["learning_rate"]
    dropout: float = 0.1
    validate_every: int = _SAMPLED["validate_every"]
    seed: int = 0
    output: Path | None = None
    resume: bool = False
    edges: Path | None = None
    features: Path | None = None
    labels: Path | None = None
    node_types: Path | None = None
    packages: Path | None = None
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

    def add_by_kind(flag: str, kind: type, text: str) -> None:
        """A flag whose default depends on the kind of training."""
        name = flag[2:].replace("-", "_")
        text = f"{text} (default: {_SAMPLED[name]}; {_WHOLE[name]} on the whole graph)"
        add(flag, type=kind, default=argparse.SUPPRESS, help=text)

    add("--model", choices=MODELS, default=default.model, help="network")
    add("--data", choices=DATA, default=default.data, help="data set that needs no files")
    text = "train rgcn, rgat or hgt on sampled batches, not on the whole graph at once"
    add("--sampled", action="store_true", help=text)
    add_by_kind("--epochs", int, "passes over the training nodes")
    add("--batch-size", type=int, default=default.batch_size, help="training nodes per step")
    add("--fanout", default=_joined(default.fanout), help="neighbours sampled per hop")
    add("--eval-fanout", default=_joined(default.eval_fanout), help="the same for the final test")
    add("--layers", type=int, default=default.layers, help="convolutions over the whole graph")
    add("--heads", type=int, default=default.heads, help="attention heads of rgat and hgt")
    add_by_kind("--hidden", int, "width of the hidden layers")
    add_by_kind("--learning-rate", float, "peak, of AdamW")
    add("--dropout", type=float, default=default.dropout, help="share of hidden values dropped")
    add_by_kind("--validate-every", int, "epochs between validations, and checkpoints")
    add("--feature-dim", type=int, default=default.feature_dim, help="bins for hashed words")
    add("--seed", type=int, default=default.seed, help="of split, weights, batches and samples")
    add("--output", type=Path, help="folder for checkpoints, metrics.json and the picture")
    add("--resume", action="store_true", help="continue from the newest checkpoint in --output")
    text = "a graph of your own: .npy, .npz (with etype for typed edges) or text"
    add("--edges", type=Path, help=text)
    add("--features", type=Path, help="its features [num_nodes, dim]: .npy or .npz")
    add("--labels", type=Path, help="its labels [num_nodes], -1 = none: .npy, .npz or text")
    add(
        "--node-types",
        type=Path,
        help="its node types [num_nodes], from 0, for hgt: .npy, .npz or text",
    )
    add("--packages", type=Path, help="Packages file for --data debian; default: this machine's")
    add("--device", choices=("cpu", "gpu"), help="default: what JAX picks")
    cached = "share of the features, of the nodes drawn most, to copy to the device"
    add("--cache", type=float, default=default.cache, help=cached)


def from_arguments(arguments: argparse.Namespace) -> Options:
    """The checked options.

    Raises:
        ValueError: a value is out of range, or flags do not go together.
    """
    sampled = arguments.sampled or arguments.model == "sage"
    values = {**(_SAMPLED if sampled else _WHOLE), **vars(arguments), "sampled": sampled}
    values = {field.name: values[field.name] for field in dataclasses.fields(Options)}
    values["fanout"] = _fanout("--fanout", values["fanout"])
    values["eval_fanout"] = _fanout("--eval-fanout", values["eval_fanout"])
    options = Options(**values)
    _check_numbers(options)
    _check_combinations(options)
    return options


def _check_numbers(options: Options) -> None:
    counts = "epochs", "batch_size", "hidden", "feature_dim", "layers", "heads", "validate_every"
    for name in counts:
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


def _check_combinations(options: Options) -> None:
    if len(options.fanout) != len(options.eval_fanout):
        raise ValueError(
            f"--eval-fanout must have as many hops as --fanout, got {len(options.eval_fanout)} "
            f"and {len(options.fanout)}; the network has one layer per hop"
        )
    if options.model in ("rgat", "hgt") and options.hidden % options.heads:
        raise ValueError(
            f"--hidden must be a multiple of --heads, got {options.hidden} and {options.heads}"
        )
    if options.cache > 0 and not options.sampled:
        raise ValueError(
            "--cache goes with sampled batches: on the whole graph all features are on the device; "
            "add --sampled"
        )
    own = [name for name in ("edges", "features", "labels") if getattr(options, name) is None]
    if 0 < len(own) < 3:
        raise ValueError(
            f"a graph of your own needs --edges, --features and --labels, got no "
            f"{' and no '.join(_flag(name) for name in own)}"
        )
    if options.node_types is not None and (own or options.model == "sage"):
        raise ValueError("--node-types goes with --edges and --model rgcn, rgat or hgt")
    if options.packages is not None and options.data != "debian":
        raise ValueError(f"--packages goes with --data debian, got --data {options.data}")
    if options.data != "wordnet" and not own:
        raise ValueError(f"--data {options.data} and --edges are two graphs; leave one out")
    if options.resume and options.output is None:
        raise ValueError("--resume needs --output, the folder of the run to continue")


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
