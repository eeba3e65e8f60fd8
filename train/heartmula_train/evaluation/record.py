"""What every result carries beside its figures: command, commit, versions, checkpoint's hash; no machine's paths."""

from __future__ import annotations

import argparse
import hashlib
import json
import platform
import re
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from math import sqrt
from pathlib import Path
from typing import Any

import numpy as np
import scipy
import torch

from heartmula_train.evaluation.program import DEFAULT_PROGRAM, Program, Sampling
from heartmula_train.song.checkpoint import CODEC_FOLDER

_Z_95 = 1.959963984540054
_LINE = 120


def command_parser(name: str, description: str) -> argparse.ArgumentParser:
    """Of `python -m heartmula_train.evaluation.NAME`, with the module's text as its help."""
    return argparse.ArgumentParser(
        prog=f"python -m heartmula_train.evaluation.{name}",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def add_program(parser: argparse.ArgumentParser) -> None:
    """Flags of every evaluation that runs the C++ program."""
    parser.add_argument("--program", default=DEFAULT_PROGRAM, help="the built heartmula (HEARTMULA, or of the PATH)")
    parser.add_argument("--threads", type=int, default=1, help="of the program; its songs do not depend on them")
    parser.add_argument("--out", type=Path, help="the JSON result")


def add_sampling(parser: argparse.ArgumentParser, **defaults: float) -> None:
    """Flags of every evaluation whose songs are sampled; `defaults` where they are not those of `generate`."""
    for name, value in asdict(Sampling(**defaults)).items():
        parser.add_argument(f"--{name}", type=type(value), default=value)


def sampling_of(options: argparse.Namespace) -> Sampling:
    """What those flags say."""
    return Sampling(options.cfg_scale, options.topk, options.temperature)


def provenance(name: str, arguments: Sequence[str]) -> dict[str, Any]:
    """First part of a result; `arguments` are those of the evaluation's command line."""
    versions = {"python": platform.python_version(), "numpy": np.__version__, "scipy": scipy.__version__}
    return {
        "evaluation": name,
        "command": shown_command(f"python -m heartmula_train.evaluation.{name}", arguments),
        "commit": commit(),
        "versions": {**versions, "torch": torch.__version__},
    }


def program_provenance(program: Program, model_path: Path) -> dict[str, Any]:
    """Second part, of an evaluation that runs the program on a checkpoint."""
    return {"program": program.version(), "checkpoint_sha256": checkpoint_hash(model_path)}


def shown_command(command: str, arguments: Iterable[str]) -> str:
    """As typed, but of an absolute path only its last part."""
    return " ".join([command, *(Path(word).name if word.startswith("/") else word for word in arguments)])


def commit() -> str:
    """Of the repository that the kit runs from; empty outside one. `+` marks changes that are not committed."""
    folder = Path(__file__).parents[1]

    def git(*words: str) -> str:
        return subprocess.run(["git", "-C", str(folder), *words], capture_output=True, text=True).stdout.strip()

    try:
        return git("rev-parse", "HEAD") + (
            "+" if git("status", "--porcelain", "--untracked-files=no", "--", ".") else ""
        )
    except OSError:
        return ""


def checkpoint_hash(folder: Path) -> str:
    """SHA-256 over names and contents of all that a song depends on."""
    parts = [*folder.glob("HeartMuLa-oss-*/*"), *folder.glob(f"{CODEC_FOLDER}/*"), *folder.glob("*.json")]
    digest = hashlib.sha256()
    for path in sorted(parts):
        if path.parent != folder or path.name in ("tokenizer.json", "gen_config.json"):
            digest.update(f"{path.relative_to(folder).as_posix()}\0{path.stat().st_size}\0".encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()


def wilson(successes: int, trials: int) -> tuple[float, float]:
    """95 % interval of a share (Wilson's score interval)."""
    if trials == 0:
        return 0.0, 1.0
    share, z2 = successes / trials, _Z_95**2
    middle = share + z2 / (2 * trials)
    half = _Z_95 * sqrt(share * (1 - share) / trials + z2 / (4 * trials**2))
    return max(0.0, (middle - half) / (1 + z2 / trials)), min(1.0, (middle + half) / (1 + z2 / trials))


def share(outcomes: Sequence[bool]) -> dict[str, Any]:
    """How many of how many, with the 95 % interval."""
    count = sum(outcomes)
    low, high = wilson(count, len(outcomes))
    return {
        "right": count,
        "of": len(outcomes),
        "share": round(count / len(outcomes), 4) if outcomes else 0.0,
        "interval_95": [round(low, 4), round(high, 4)],
    }


def write_result(result: dict[str, Any], out: Path | None) -> None:
    """To a file, if one is named."""
    if out:
        out.parent.mkdir(parents=True, exist_ok=True)
        write_compact(out, result)
        print(f"wrote {out}", file=sys.stderr)


def write_compact(path: Path, content: dict[str, Any]) -> None:
    """Indented JSON, but a list of plain values, or an object of a few, stands on one line."""

    def joined(plain: re.Match[str]) -> str:
        line = json.dumps(json.loads(plain[0]))
        return line if line[0] == "[" or len(line) <= _LINE else plain[0]

    text = re.sub(r"[\[{]\s[^\[\]{}]*[\]}]", joined, json.dumps(content, indent=2))
    path.write_text(text + "\n", encoding="utf-8")
