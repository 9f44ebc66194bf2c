"""`jaxdirect train`: a graph network on WordNet, or on a graph of your own."""

from __future__ import annotations

import argparse
import importlib.util
from typing import Any

from jaxdirect.cli.train.options import add_arguments, from_arguments

_EXTRA = ("flax", "optax", "orbax.checkpoint", "rich", "matplotlib")


def add_parser(commands: Any) -> None:
    """Adds the command to the parser's subcommands."""
    parser = commands.add_parser(
        "train",
        help="train GraphSAGE, RGCN, RGAT or HGT",
        description="Trains a graph network to classify the nodes of WordNet (or of Debian's "
        "package index, or of --edges/--features/--labels). GraphSAGE ignores the types of edges; "
        "its neighbours are sampled and features gathered from host memory inside the jitted step. "
        "rgcn, rgat and hgt learn weights per edge type, on the whole graph at once or --sampled.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add_arguments(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    """Checks the options and what is installed, then trains."""
    options = from_arguments(arguments)
    missing = [name for name in _EXTRA if not _is_installed(name)]
    if missing:
        raise ModuleNotFoundError(
            f"training needs {', '.join(missing)}; pip install 'jaxdirect[train]'"
        )
    # Flax and its friends are an extra: nothing above may import them.
    from jaxdirect.cli.train.job import run_job

    run_job(options)


def _is_installed(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:  # the parent package is missing
        return False
