#!/usr/bin/env python3
"""Builds jaxdirect/data/wordnet/ from the WordNet 3.0 database of Debian's `wordnet-base`.

    python scripts/build_wordnet.py                 # apt-get download + dpkg-deb -x
    python scripts/build_wordnet.py --source DIR    # an unpacked package or database directory

The same input gives the same bytes. Formats: wndb(5WN) and lexnames(5WN).
"""

from __future__ import annotations

import argparse
import gzip
import io
import re
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import numpy as np

OUTPUT = Path(__file__).resolve().parent.parent / "jaxdirect" / "data" / "wordnet"
PARTS = {"noun": "n", "verb": "v", "adj": "a", "adv": "r"}

# The symbols of wninput(5WN), in the order of their codes. `\` is one type in the files: it means
# "pertainym" from an adjective and "derived from adjective" from an adverb.
POINTERS = {
    "!": "antonym",
    "@": "hypernym",
    "@i": "instance_hypernym",
    "~": "hyponym",
    "~i": "instance_hyponym",
    "#m": "member_holonym",
    "#s": "substance_holonym",
    "#p": "part_holonym",
    "%m": "member_meronym",
    "%s": "substance_meronym",
    "%p": "part_meronym",
    "=": "attribute",
    "+": "derivation",
    ";c": "topic_domain",
    "-c": "topic_member",
    ";r": "region_domain",
    "-r": "region_member",
    ";u": "usage_domain",
    "-u": "usage_member",
    "*": "entailment",
    ">": "cause",
    "^": "also_see",
    "$": "verb_group",
    "&": "similar_to",
    "<": "participle",
    "\\": "pertainym",
}


def read_lexnames(root: Path) -> list[str]:
    """Names of the lexicographer files by number, from `lexnames` or from its manual page."""
    for path in sorted(root.rglob("lexnames*")):
        text = (gzip.decompress if path.suffix == ".gz" else bytes)(path.read_bytes()).decode()
        rows = re.findall(r"^(\d\d)\t(\S+)\s*\t", text, flags=re.MULTILINE)
        if rows and [int(number) for number, _ in rows] == list(range(len(rows))):
            return [name for _, name in rows]
    raise SystemExit(f"build_wordnet: no file or manual page 'lexnames' with a table under {root}")


def read_licence(root: Path) -> str:
    """The licence paragraph for `Files: *` of the package's copyright file."""
    paths = sorted(root.rglob("copyright"))
    if not paths:
        raise SystemExit(f"build_wordnet: no file 'copyright' under {root}")
    paragraph = (
        paths[0].read_text(encoding="utf-8").split("\nFiles: *\n", 1)[-1].split("\n\n", 1)[0]
    )
    copyright_line, _, licence = paragraph.partition("\nLicense:")
    lines = licence.splitlines()[1:]
    body = "\n".join("" if line.strip() == "." else line[1:] for line in lines)
    return (
        f"WordNet 3.0 database (the files of this directory are derived from it)\n"
        f"{copyright_line}\n\n{body.strip()}\n"
    )


def read_synsets(directory: Path) -> list[tuple[str, str, list[str]]]:
    """(part of speech, gloss, fields before the gloss) of every synset, in file order."""
    synsets = []
    for part, pos in PARTS.items():
        path = directory / f"data.{part}"
        for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), 1):
            if not line or line.startswith("  "):  # the licence lines on top
                continue
            head, bar, gloss = line.partition(" | ")
            if not bar:
                raise SystemExit(f"build_wordnet: {path}:{number}: no gloss")
            synsets.append((pos, gloss.strip(), head.split()))
    return synsets


def build(directory: Path, lexnames: list[str]) -> dict[str, np.ndarray]:
    """The arrays of the data set; synset ids follow the files noun, verb, adj, adv."""
    synsets = read_synsets(directory)
    ids = {(pos, fields[0]): i for i, (pos, _, fields) in enumerate(synsets)}
    symbols = {symbol: code for code, symbol in enumerate(POINTERS)}
    pointers, counts, words = [], [], []
    for pos, _, fields in synsets:
        words.append(re.sub(r"\((a|p|ip)\)$", "", fields[4]).replace("_", " "))
        at = 4 + 2 * int(fields[3], 16)
        count = int(fields[at])
        counts.append(count)
        for k in range(at + 1, at + 1 + 4 * count, 4):
            symbol, offset, target_pos, words_linked = fields[k : k + 4]
            target = ids.get((target_pos, offset))
            if target is None or symbol not in symbols:
                where = f"data of {pos}, synset {fields[0]}"
                raise SystemExit(
                    f"build_wordnet: {where}: bad pointer {' '.join(fields[k : k + 4])}"
                )
            pointers.append((target, symbols[symbol], words_linked != "0000"))
    table = np.array(pointers, dtype=np.int32).reshape(-1, 3)
    glosses = [gloss.encode() for _, gloss, _ in synsets]
    return {
        "glosses": np.frombuffer(b"\n".join(glosses), np.uint8),
        "words": np.frombuffer("\n".join(words).encode(), np.uint8),
        "labels": np.array([int(fields[1]) for _, _, fields in synsets], np.uint8),
        "class_names": np.array(lexnames),
        "pointer_counts": np.array(counts, np.uint16),
        "pointer_targets": table[:, 0],
        "pointer_types": table[:, 1].astype(np.uint8),
        "pointer_lexical": np.packbits(table[:, 2].astype(bool)),
        "pointer_names": np.array(list(POINTERS.values())),
    }


def write(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """An .npz with LZMA members (`numpy.load` reads it) and no time stamps."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, array in arrays.items():
            member = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
            member.compress_type = zipfile.ZIP_LZMA
            member.external_attr = 0o644 << 16
            buffer = io.BytesIO()
            np.lib.format.write_array(buffer, np.ascontiguousarray(array), version=(1, 0))
            archive.writestr(member, buffer.getvalue())


def download(into: Path) -> Path:
    """Fetches and unpacks the Debian package."""
    subprocess.run(["apt-get", "download", "wordnet-base"], cwd=into, check=True)
    (package,) = into.glob("wordnet-base_*.deb")
    subprocess.run(["dpkg-deb", "-x", str(package), str(into / "unpacked")], check=True)
    return into / "unpacked"


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--source", type=Path, help="unpacked wordnet-base, or data.* + lexnames")
    parser.add_argument("--output", type=Path, default=OUTPUT)
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as scratch:
        root = options.source or download(Path(scratch))
        found = sorted(root.rglob("data.noun"))
        if not found:
            raise SystemExit(f"build_wordnet: no file 'data.noun' under {root}")
        arrays = build(found[0].parent, read_lexnames(root))
        licence = read_licence(root)
    options.output.mkdir(parents=True, exist_ok=True)
    target = options.output / "wordnet.npz"
    write(target, arrays)
    (options.output / "LICENSE").write_text(licence, encoding="utf-8")
    lexical = np.unpackbits(arrays["pointer_lexical"], count=arrays["pointer_types"].size).sum()
    print(
        f"{arrays['labels'].size} synsets, {arrays['pointer_types'].size} pointers "
        f"({lexical} lexical, {np.unique(arrays['pointer_types']).size} types), "
        f"{np.unique(arrays['labels']).size} classes -> {target} ({target.stat().st_size} bytes)"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
