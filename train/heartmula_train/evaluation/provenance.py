"""The README of a trained checkpoint: how it was made and what it reaches.

Usage: python -m heartmula_train.evaluation.provenance --config configs/demo.toml --run RUN --to ../demo

With --run: writes TO/training.json (figures and validation curves of each stage, from figures.json and the TensorBoard
logs); stages that the run did not train stay as they are told there. Then, from it and the results
TO/evaluation/*.json: TO/training.svg and TO/README.md. Without --run only the latter, from what is there. A section
"What to do next" that the README has stays.
"""

from __future__ import annotations

import platform
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from heartmula_train.evaluation.curves import draw_curves, read_curves
from heartmula_train.evaluation.record import checkpoint_hash, command_parser, commit, write_compact
from heartmula_train.evaluation.report import STUDENT as STUDENT_FOLDER
from heartmula_train.evaluation.report import has_table, read_results, report, table
from heartmula_train.song.checkpoint import read_json
from heartmula_train.stages.loop import FIGURES
from heartmula_train.stages.run import CODEC, STAGES, START, STUDENT

CONFIGS = Path(__file__).parents[2] / "configs"
TRAINING, CURVES, README, RESULTS = "training.json", "training.svg", "README.md", "evaluation"
NEXT = "What to do next"
DRAFTER = "drafter.safetensors"

Record = dict[str, Any]  # of a run


def flat_settings(config: Path) -> dict[str, Any]:
    """Of a configuration file, as "flow.steps"."""

    def entries(table: dict[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
        for name, value in table.items():
            if isinstance(value, dict):
                yield from entries(value, f"{prefix}{name}.")
            else:
                yield prefix + name, value

    return dict(entries(tomllib.loads(config.read_text(encoding="utf-8")), ""))


def changed_settings(config: Path, kits: Path) -> dict[str, Any]:
    """Settings of a run's configuration that the kit's of the same name has otherwise (None: not at all)."""
    if not kits.exists():
        return {}
    ours, theirs = flat_settings(kits), flat_settings(config)
    return {name: theirs.get(name) for name in {**ours, **theirs} if theirs.get(name) != ours.get(name)}


def training_record(config: Path, run: Path, trained_at: str, machine: str, note: str) -> Record:
    """What is kept of a run: its configuration, and figures and curves of each stage that it trained."""
    stages = [*STAGES, STUDENT]
    folders = {stage: run / stage / FIGURES for stage in stages}
    taken = ""
    if (run / CODEC).exists():
        taken = "all" if (run / "language_model" / START).exists() else "codec"
    return {
        "config": config.name,
        "taken": taken,
        "settings": flat_settings(config),
        "changed_settings": changed_settings(config, CONFIGS / config.name),
        "commit": trained_at,
        "machine": machine,
        "note": note,
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
        "figures": {stage: read_json(path) for stage, path in folders.items() if path.exists()},
        "curves": read_curves(run, stages),
    }


def merged(runs: list[Record], new: Record) -> list[Record]:
    """The records of a checkpoint's runs after another, which takes the place of what trained the same stages."""
    kept = []
    for run in runs:
        parts = {
            part: {stage: value for stage, value in run[part].items() if stage not in new["figures"]}
            for part in ("figures", "curves")
        }
        if parts["figures"]:
            kept.append({**run, **parts})
    return [*kept, new]


def sizes(folder: Path) -> str:
    """A table of the models' parameters and bytes."""
    rows = []
    for path in sorted(folder.glob("*/*.safetensors")):
        with safe_open(path, "pt") as file:
            shapes = [file.get_slice(name).get_shape() for name in file.keys()]  # noqa: SIM118
        parameters = sum(torch.Size(shape).numel() for shape in shapes)
        rows.append(
            [path.relative_to(folder).as_posix(), f"{parameters / 1e6:.2f} M", f"{path.stat().st_size / 1e6:.1f} MB"]
        )
    return table(["file", "numbers", "size"], rows)


def stage_table(runs: list[Record]) -> str:
    """Steps, minutes and last validation figures of each stage."""
    rows = []
    for stage, figures in (item for run in runs for item in run["figures"].items()):
        shown = [f"{name} {value:.5g}" for name, value in figures.items() if name not in ("step", "seconds")]
        rows.append([stage, str(figures["step"]), f"{figures['seconds'] / 60:.1f}", ", ".join(shown)])
    return table(["stage", "steps", "minutes", "on held-out songs"], rows)


def run_text(run: Record) -> str:
    """How the stages of a run were made."""
    config, stages = f"configs/{run['config']}", list(run["figures"])
    origin = {STUDENT: "--from ../demo "}  # the other stages' lies in the run
    commands = [
        f"python -m heartmula_train {stage} --config {config} {origin.get(stage, '')}--out RUN" for stage in stages
    ]
    if run["taken"]:
        commands.insert(
            0, f"python -m heartmula_train start --config {config} --from ../demo --take {run['taken']} --out RUN"
        )
    if stages[-1] == list(STAGES)[-1]:
        commands.append(f"python -m heartmula_train export --config {config} --out RUN --to ../demo")
        commands.append(f"python -m heartmula_train.evaluation.provenance --config {config} --run RUN --to ../demo")
    if stages[-1] == STUDENT:
        commands.append(
            f"python -m heartmula_train export_student --config {config} --from ../demo --out RUN --changes "
            f"--to ../demo/{STUDENT_FOLDER}"
        )
    lines = "\n".join(commands)
    versions = ", ".join(f"{name} {version}" for name, version in run["versions"].items())
    where = f" on {run['machine']}" if run["machine"] else ""
    changes = ", ".join(f"{name} = {value}" for name, value in run["changed_settings"].items())
    changed = f"\nThis run's configuration had {changes} instead of what the file says.\n" if changes else ""
    note = f"\n{run['note']}\n" if run.get("note") else ""
    at = f"at commit {run['commit']}, " if run["commit"] else ""
    named = f"Stage{'s' * (len(stages) > 1)} {', '.join(stages)}"
    return f"""{named}: in `train/`, {at}with {versions}{where}; seed {run["settings"]["seed"]}:

```sh
{lines}
```
{changed}{note}"""


def kept_section(text: str, title: str) -> str:
    """A section of a README, its title included, or nothing."""
    found = re.search(rf"^## {re.escape(title)}\n.*?(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    return found[0].rstrip() + "\n\n" if found else ""


def student_text(folder: Path) -> str:
    """How the checkpoint's student is used, if it has one."""
    if not (folder / STUDENT_FOLDER).exists():
        return ""
    return f"""`{STUDENT_FOLDER}/` is a student of the codec's flow: 4, 2 or 1 evaluations a window instead of 20
(`--model_path demo --codec_path demo/{STUDENT_FOLDER}`). It holds only the tensors that it has otherwise than
HeartCodec-oss, which must stay beside it.

"""


def drafter_text(folder: Path) -> str:
    """What a drafter beside the checkpoint is for, if there is one."""
    path = folder / DRAFTER
    if not path.exists():
        return ""
    with safe_open(path, "pt") as file:
        numbers = sum(torch.Size(file.get_slice(name).get_shape()).numel() for name in file.keys())  # noqa: SIM118
    return f"""`{DRAFTER}` ({numbers / 1e6:.1f} M numbers, {path.stat().st_size / 1e6:.1f} MB) guesses the language
model's next codes and changes no song; the program finds it by itself
([docs/decoding.md](../docs/decoding.md#drafters-that-learn), [demo_drafter.toml](../train/configs/demo_drafter.toml)).

"""


def readme(folder: Path, runs: list[Record], results: str, studies: list[str], next_steps: str) -> str:
    """The whole text; `studies` are results without a table here."""
    told = f"\nThe other studies there ({', '.join(studies)}) are told of in [docs/](../docs).\n" if studies else ""
    made = "\n".join(run_text(run) for run in runs)
    beside = student_text(folder) + drafter_text(folder)
    return f"""# A small HeartMuLa, trained on synthetic songs

The official architecture and file layout at a small size, trained from nothing by [the kit](../train/README.md) on
songs that the kit synthesizes. No recording and no released checkpoint went into it. It knows only the kit's tags and
words; what it makes sounds like the kit's songs through a small codec.

```sh
build/release/heartmula generate --model_path demo --tags_text fast,happy,rock,guitar,drums,bass \\
  --lyrics_text "$(printf '[intro]\\n\\n[verse]\\nblue moon over the sea\\nsing to me again\\n\\n[outro]\\n')" \\
  --temperature 0.8 --seed 1 --save_path song.wav
```

{sizes(folder)}

{beside}SHA-256 of the checkpoint, over all that a song depends on: `{checkpoint_hash(folder)}`.

## What it reaches

{results}
The rows behind the totals are in [{RESULTS}/]({RESULTS}). The kit's analyzer judges, no person does; how often it is
right is in [analyzer_accuracy.json](../train/heartmula_train/music/analyzer_accuracy.json).
{told}
## How it was made

{made}
{stage_table(runs)}

A stage whose minutes end it before its steps do does not end at the same weights when it is trained again.
[{TRAINING}]({TRAINING}) holds the settings and these curves, all of held-out songs:

![Validation figures of each stage]({CURVES})

{next_steps}## Licence

Apache License 2.0, as the repository: code, music and weights are all made here.
"""


def main(arguments: list[str] | None = None) -> int:
    """Command line."""
    parser = command_parser("provenance", __doc__)
    parser.add_argument("--config", type=Path, help="the run's configuration; needed with --run")
    parser.add_argument("--run", type=Path, help="the run's folder")
    parser.add_argument("--to", type=Path, required=True, help="the exported checkpoint's folder")
    parser.add_argument("--commit", help="that the run was trained at (the repository's present one)")
    parser.add_argument("--machine", default="", help="what it was trained on, in words")
    parser.add_argument("--note", default="", help="what else a reader must know of the run: a paragraph")
    options = parser.parse_args(arguments)
    if options.run and not options.config:
        parser.error("--run needs --config")
    try:
        if options.run:
            trained_at = commit() if options.commit is None else options.commit
            record = training_record(options.config, options.run, trained_at, options.machine, options.note)
            before = read_json(options.to / TRAINING)["runs"] if (options.to / TRAINING).exists() else []
            write_compact(options.to / TRAINING, {"runs": merged(before, record)})
        runs = read_json(options.to / TRAINING)["runs"]
        found = sorted((options.to / RESULTS).glob("*.json"))
        tables = [path for path in found if has_table(path)]
        results = report(read_results(tables), checkpoint_hash(options.to))
        studies = [path.stem for path in found if path not in tables]
        curves = {stage: curve for run in runs for stage, curve in run["curves"].items()}
        (options.to / CURVES).write_text(draw_curves(curves), encoding="utf-8")
        before = (options.to / README).read_text(encoding="utf-8") if (options.to / README).exists() else ""
        text = readme(options.to, runs, results, studies, kept_section(before, NEXT))
        (options.to / README).write_text(text, encoding="utf-8")
    except (ValueError, OSError) as error:
        print(f"provenance: {error}", file=sys.stderr)
        return 2
    print(f"wrote {options.to / README}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
