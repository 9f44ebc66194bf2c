"""Counts what is in a compiled program's text."""

from __future__ import annotations

import re

_INSTRUCTION = re.compile(r"^\s*(?:ROOT )?%?[\w.\-]+ = .*?\s([a-z][a-z0-9\-]*)\(")
_CALLED = re.compile(r"(?:to_apply|body|calls|true_computation|false_computation)=%?([\w.\-]+)")
_FREE = {
    *("parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all", "iota"),
    *("opt-barrier", "call", "while", "conditional", "partition-id", "replica-id"),
}


def launches(text: str) -> int:
    """About how many kernels a compiled program launches: fusions, custom calls and the like.

    What a `call` or `while` runs is counted once; a custom call may launch several kernels.
    """
    computations: dict[str, list[str]] = {}
    name = entry = ""
    for line in text.splitlines():
        if line.endswith("{") and not line.startswith(" ") and "(" in line:
            name = line.removeprefix("ENTRY ").split("(")[0].strip().lstrip("%")
            computations[name] = []
            entry = name if line.startswith("ENTRY") else entry
        elif line.startswith(" ") and name:
            computations[name].append(line)

    def count(which: str) -> int:
        total = 0
        for line in computations.get(which, ()):
            if (found := _INSTRUCTION.match(line)) is None:
                continue
            kind = found.group(1)
            if kind in ("call", "while", "conditional"):
                total += sum(count(called) for called in _CALLED.findall(line))
            total += kind not in _FREE
        return total

    return count(entry)
