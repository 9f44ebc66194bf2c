"""`jaxdirect info`: what is built, found and missing."""

from __future__ import annotations

import argparse
from typing import Any

import jaxdirect


def add_parser(commands: Any) -> None:
    """Adds the command to the parser's subcommands."""
    parser = commands.add_parser("info", help="what is built, found, missing, and how to get it")
    parser.add_argument(
        "--no-measure", action="store_true", help="do not measure the rate of each GPU's link"
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    """Prints the configuration."""
    jaxdirect.show_config(measure=not arguments.no_measure)
