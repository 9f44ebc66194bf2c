"""The text of a Debian package index and its records."""

from __future__ import annotations

import bz2
import gzip
import lzma
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from jaxdirect.data._arrays import named

_REMEDY = (
    "give path=, a Packages file of a mirror such as "
    "https://deb.debian.org/debian/dists/bookworm/main/binary-amd64/Packages.xz"
)
_PACKED = {b"\x1f\x8b": gzip.open, b"\xfd7zXZ\0": lzma.open, b"BZh": bz2.open}
_UNREADABLE = {b"\x04\x22\x4d\x18": "lz4", b"\x28\xb5\x2f\xfd": "zstd"}

Record = dict[str, str]


def read_index(path: Path | None) -> str:
    """The index in a file, plain or packed by gzip, xz or bzip2; None reads this machine's own."""
    if path is None:
        return _dump()
    with named(path):
        data = path.read_bytes()
        unpack = next((tool for magic, tool in _PACKED.items() if data.startswith(magic)), None)
        if unpack is not None:
            with unpack(path) as stream:
                data = stream.read()
    for magic, tool in _UNREADABLE.items():
        if data.startswith(magic):
            raise ValueError(f"{path}: packed by {tool}; unpack it first: {tool} -d {path}")
    return data.decode(errors="replace")


def _dump() -> str:
    command = shutil.which("apt-cache")
    if command is None:
        raise ValueError(f"debian_packages: this machine has no apt-cache; {_REMEDY}")
    done = subprocess.run([command, "dumpavail"], capture_output=True, check=False)
    if done.returncode or not done.stdout.strip():
        why = done.stderr.decode(errors="replace").strip() or "it printed nothing"
        raise ValueError(
            f"debian_packages: apt-cache dumpavail: {why}; run apt-get update, or {_REMEDY}"
        )
    return done.stdout.decode(errors="replace")


def records(text: str, where: str) -> list[Record]:
    """The first record of every package, in the order of their names.

    Args:
        text: paragraphs of "Field: value" lines; a line that begins with a blank goes on with the
            value of the line above.
        where: what errors call the text.

    Returns:
        One dictionary per package: field to value, lines joined by newlines.

    Raises:
        ValueError: a line is neither, a paragraph has no Package, or there are no paragraphs.

    Example:
        >>> records("Package: b\\nSuggests: a,\\n c\\n\\nPackage: a\\n", "text")
        [{'Package': 'a'}, {'Package': 'b', 'Suggests': 'a,\\n c'}]
    """
    found: dict[str, Record] = {}
    for number, record in _paragraphs(text, where):
        name = record.get("Package")
        if not name:
            raise ValueError(
                f"{where}:{number}: expected a Package field, got only {sorted(record)}; "
                "give an index of binary packages"
            )
        found.setdefault(name, record)
    if not found:
        raise ValueError(f"{where}: expected packages, got an empty index; {_REMEDY}")
    return [found[name] for name in sorted(found)]


def _paragraphs(text: str, where: str) -> Iterator[tuple[int, Record]]:
    """(number of the first line, fields) of every paragraph."""
    record: Record = {}
    first, field = 1, ""
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            if record:
                yield first, record
            record, field = {}, ""
        elif line[0] in " \t" and field:
            record[field] += "\n" + line
        else:
            field, colon, value = line.partition(":")
            if not colon or not field or field != field.strip():
                raise ValueError(f"{where}:{number}: expected 'Field: value', got '{line[:60]}'")
            first = first if record else number
            record[field] = value.strip()
    if record:
        yield first, record
