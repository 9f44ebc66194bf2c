"""The `jaxdirect` command: `info`, `plan` and `train`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from jaxdirect.cli import info, plan, train


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the `jaxdirect` command.

    Args:
        arguments: what follows the command's name; default: `sys.argv[1:]`.

    Returns:
        The exit status: 0, 2 after a user's mistake (one sentence on stderr), 130 if interrupted.

    Example:
        >>> main(["train", "--epochs", "0"])
        2
    """
    parser = argparse.ArgumentParser(
        prog="jaxdirect", description="Getting data to the GPU without waste, for JAX."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    for command in (info, plan, train):
        command.add_parser(commands)
    try:
        parsed = parser.parse_args(arguments)
    except SystemExit as exit_:  # argparse has printed its message (or the help)
        return int(exit_.code or 0)
    try:
        parsed.run(parsed)
    except (ValueError, ModuleNotFoundError, OSError) as error:
        print(f"jaxdirect {parsed.command}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as interrupt:
        remedy = f"; {interrupt}" if interrupt.args else ""
        print(f"jaxdirect {parsed.command}: interrupted{remedy}", file=sys.stderr)
        return 130
    return 0
