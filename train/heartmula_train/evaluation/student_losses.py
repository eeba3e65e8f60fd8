"""Which loss of a student's flow map is worth its time: the same student, trained as long with each of them.

Usage: python -m heartmula_train.evaluation.student_losses --config configs/demo_student.toml --model_path ../demo \
           --keep runs/losses --out RESULT.json

Each begins as the teacher and learns for --minutes on the same solutions, always with a twentieth of `guidance`; a loss
that needs derivatives makes fewer steps of them. Distances of held-out songs to the fine solution, as the stage
validates them. Few minutes say which loss learns fastest, not where each would end.
"""

from __future__ import annotations

import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from heartmula_train.codec.heartcodec import HeartCodec
from heartmula_train.evaluation.record import checkpoint_hash, command_parser, provenance, write_result
from heartmula_train.song.checkpoint import CODEC_FOLDER, load_codec
from heartmula_train.stages.config import StudentConfig, read_student_config
from heartmula_train.stages.flow_student import LOSSES, FlowStudentTask
from heartmula_train.stages.loop import train
from heartmula_train.stages.run import exported_quantizer
from heartmula_train.stages.trajectories import Codes, codes_of_music

_GUIDANCE = 0.05
_STEPS = 1_000_000  # time ends it


def compared() -> dict[str, tuple[tuple[str, float], ...]]:
    """Losses by name, and how often each is drawn."""
    others = [name for name in LOSSES if name != "guidance"]
    return {name: ((name, 1.0 - _GUIDANCE), ("guidance", _GUIDANCE)) for name in others}


def trained(config: StudentConfig, teacher: HeartCodec, codes: Codes, name: str, folder: Path) -> dict[str, Any]:
    """A student that learned with the loss `name`: steps, seconds a step, and distances."""
    config = replace(config, flow_student=replace(config.flow_student, losses=compared()[name]))
    task = FlowStudentTask(config, teacher, codes, folder / "solutions")
    task.prepare()
    figures = train(task, config.flow_student, folder / name, config.seed, torch.device("cpu"))
    steps = int(figures["step"])
    distances = {
        f"{count} steps": {
            figure: round(figures[f"{figure}_{count}"], 4) for figure in ("log_mel_db", "si_sdr_db", "levels_changed")
        }
        for count in config.flow_student.student_steps
    }
    return {"loss": name, "steps": steps, "seconds_a_step": round(figures["seconds"] / steps, 3), **distances}


def main(arguments: list[str] | None = None) -> int:
    """Command line."""
    arguments = sys.argv[1:] if arguments is None else arguments
    parser = command_parser("student_losses", __doc__)
    parser.add_argument("--config", type=Path, required=True, help="of the stage flow_student")
    parser.add_argument("--model_path", type=Path, required=True, help="the teacher's checkpoint, with its quantizer")
    parser.add_argument("--minutes", type=float, default=6.0, help="of training, for each loss")
    parser.add_argument("--shards", type=int, default=5, help="files of solutions; a fifth as many of windows")
    parser.add_argument("--songs", type=int, default=4, help="held-out songs, their first 25.6 s")
    parser.add_argument("--keep", type=Path, help="folder in which solutions and students stay")
    parser.add_argument("--out", type=Path, help="the JSON result")
    options = parser.parse_args(arguments)
    try:
        result = provenance("student_losses", arguments)
        teacher = load_codec(options.model_path / CODEC_FOLDER)
        config = read_student_config(options.config, teacher.config)
        settings = replace(
            config.flow_student,
            minutes=options.minutes,
            steps=_STEPS,
            validate_every=_STEPS,
            shards=options.shards,
            window_shards=max(1, options.shards // 5),
            validation_songs=options.songs,
        )
        config = replace(config, flow_student=settings)
        codes = codes_of_music(config, exported_quantizer(config, options.model_path))
        with tempfile.TemporaryDirectory() as work:
            folder = options.keep or Path(work)
            rows = [trained(config, teacher, codes, name, folder) for name in compared()]
    except (ValueError, OSError) as error:
        print(f"student_losses: {error}", file=sys.stderr)
        return 2
    result["checkpoint_sha256"] = checkpoint_hash(options.model_path)
    result["settings"] = {"minutes": options.minutes, "songs": options.songs, "guidance": _GUIDANCE}
    result["losses"] = rows
    write_result(result, options.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
