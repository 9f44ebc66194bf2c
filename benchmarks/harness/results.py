"""The JSON file of a benchmark, and goals that a record is compared with."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def judge(record: dict[str, Any], goals: Sequence[tuple[str, float]]) -> list[dict[str, Any]]:
    """Compares a record with its goals, each a dotted path into the record and a least value."""
    judged = []
    for path, least in goals:
        value: Any = record
        for part in path.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        if value is not None:
            judged.append({"what": path, "at_least": least, "got": value, "met": value >= least})
    return judged


def keep_others(record: dict[str, Any], before: dict[str, Any]) -> None:
    """Adds the contenders of an earlier record that were not measured again, and their runs."""
    others = {k: v for k, v in before["contenders"].items() if k not in record["contenders"]}
    record["runs_of_others"] = {
        k: before.get("runs_of_others", {}).get(k, before["run"]) for k in others
    }
    record["contenders"] |= others
    if "difference" in before:
        record["difference"] = before["difference"] | record["difference"]


class Results:
    """The JSON file: `runs` (one per process) and `cases` (name -> record), rewritten per case."""

    def __init__(self, path: Path | None, resume: bool):
        self.path = path
        self.data: dict[str, Any] = {"format": 1, "runs": [], "cases": {}}
        if resume and path is not None and path.exists():
            self.data = json.loads(path.read_text())
            if self.data.get("format") != 1:
                sys.exit(f"benchmark: {path} has another format; give a new file to --output")

    def begin(self, run: dict[str, Any]) -> None:
        """Starts this process's entry in `runs`."""
        self.data["runs"].append(run)

    def done(self, name: str) -> bool:
        """Whether a case has a result that is neither an error nor a skip."""
        return not {"error", "skipped"} & self.data["cases"].get(name, {"error": ""}).keys()

    def add(self, name: str, record: dict[str, Any]) -> None:
        """Keeps a case's record and rewrites the file."""
        self.data["cases"][name] = record | {"run": len(self.data["runs"]) - 1}
        self.write()

    def write(self) -> None:
        """Writes the file through a neighbour, so that a kill leaves the old one whole."""
        if self.path is None:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        partial = self.path.with_suffix(self.path.suffix + ".partial")
        partial.write_text(json.dumps(self.data, indent=1) + "\n")
        partial.replace(self.path)
