"""`jaxdirect plan`: where a training step's named values should wait, under a budget."""

from __future__ import annotations

import argparse
import importlib
import math
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

_UNITS = {"": 1, "b": 1, "bytes": 1} | {
    f"{prefix}{suffix}": base**power
    for suffix, base in (("b", 1000), ("ib", 1024))
    for power, prefix in enumerate("kmgt", start=1)
}


def add_parser(commands: Any) -> None:
    """Adds the command to the parser's subcommands."""
    parser = commands.add_parser(
        "plan",
        help="where the named activations of a training step should wait, under a memory budget",
        description="Plans where the named values of a training step wait for its backward pass: "
        "kept, in host memory, on disk or computed again. module:function returns (step, args), "
        "where step(policy, *args) is the whole step and args is a tuple of example arguments; "
        "see jaxdirect.offload.plan.",
    )
    parser.add_argument("function", metavar="module:function", help="returns (step, args)")
    parser.add_argument(
        "--budget", required=True, metavar="SIZE", help="device memory of the step, as 40GiB"
    )
    parser.add_argument("--figure", metavar="FILE", help="draw step time over memory, as a PNG")
    parser.add_argument("--directory", metavar="DIR", help="values may go to disk, in this folder")
    parser.add_argument("--host-limit", metavar="SIZE", help="most host memory for values")
    parser.add_argument(
        "--donate",
        type=int,
        nargs="*",
        default=(),
        metavar="N",
        help="args that may be overwritten",
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    """Checks the options, makes the step, plans and prints."""
    budget = parse_size(arguments.budget, "--budget")
    limit = arguments.host_limit and parse_size(arguments.host_limit, "--host-limit")
    figure = arguments.figure and _writable(arguments.figure)
    function = _load(arguments.function)
    from jaxdirect import offload

    if arguments.directory is not None or limit:
        offload.configure(directory=arguments.directory, host_limit_bytes=limit or None)
    step, args = _returned(arguments.function, function())
    plan = offload.plan(
        step,
        *args,
        budget_bytes=budget,
        donate_argnums=tuple(arguments.donate),
        progress=lambda sentence: print(sentence, file=sys.stderr, flush=True),
    )
    print(plan)
    if figure is not None:
        plan.figure().savefig(figure, dpi=150)


def parse_size(text: str, flag: str) -> int:
    """Bytes of a size such as `40GiB`, `1.5 GB` or `1000000`."""
    found = re.fullmatch(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)\s*([A-Za-z]*)", text.strip())
    if found is None or found[2].lower() not in _UNITS:
        raise ValueError(f"{flag} must be a size such as 40GiB, 40GB or 512MiB, got {text!r}")
    size = math.floor(float(found[1]) * _UNITS[found[2].lower()])
    if size <= 0:
        raise ValueError(f"{flag} must be positive, got {text!r}")
    return size


def _writable(name: str) -> Path:
    """The file, before all the work that it is to show."""
    path = Path(name)
    if not path.parent.is_dir():
        raise ValueError(f"--figure: there is no folder {path.parent}")
    return path


def _load(name: str) -> Callable[[], Any]:
    module_name, _, function_name = name.partition(":")
    if not module_name or not function_name:
        raise ValueError(f"expected module:function, got {name!r}")
    folder = os.getcwd()
    sys.path.insert(0, folder)  # as `python -m` does
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise  # the module is there, and what it imports is missing
        raise ValueError(
            f"there is no module {module_name!r} here or where Python looks; "
            "run from the folder that holds it"
        ) from None
    finally:
        sys.path.remove(folder)
    function = getattr(module, function_name, None)
    if not callable(function):
        if function is None:
            raise ValueError(f"module {module_name!r} has no function {function_name!r}")
        kind = type(function).__name__
        raise ValueError(f"{function_name!r} of module {module_name!r} is no function but {kind}")
    return function


def _returned(name: str, found: Any) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    if isinstance(found, tuple) and len(found) == 2 and callable(found[0]):
        step, args = found
        if isinstance(args, (tuple, list)):
            return step, tuple(args)
    raise ValueError(
        f"{name} must return (step, args): the step, as step(policy, *args), and a tuple of its "
        f"example arguments; got {_shape(found)}"
    )


def _shape(found: Any) -> str:
    if isinstance(found, tuple):
        return f"({', '.join(type(part).__name__ for part in found)})"
    return type(found).__name__
