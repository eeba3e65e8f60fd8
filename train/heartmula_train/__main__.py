"""Command line: python -m heartmula_train STAGE --config FILE --out DIR."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import torch

from heartmula_train.stages.config import CONTINUED, read_config, read_drafter_config
from heartmula_train.stages.drafters import DRAFTER_STAGES, export_drafter, train_drafter
from heartmula_train.stages.further import export_lm, train_further
from heartmula_train.stages.run import (
    STAGES,
    STUDENT,
    TAKE,
    export,
    export_student,
    start_from,
    train_flow_student,
)

_DTYPES = {"bf16": torch.bfloat16, "f32": torch.float32}
_EXPORTS = ["export", "export_student", "export_drafter", "export_lm"]
_STAGES = [*STAGES, STUDENT, *DRAFTER_STAGES, *CONTINUED, "all", "start", *_EXPORTS]


def main(arguments: list[str] | None = None) -> int:
    """Trains a stage, all of them, or exports."""
    parser = argparse.ArgumentParser(prog="python -m heartmula_train", description="Trains a small HeartMuLa")
    parser.add_argument("stage", choices=_STAGES)
    parser.add_argument("--config", type=Path, help="a TOML file, see configs/; all but export_lm need one")
    parser.add_argument("--out", type=Path, required=True, help="the run's folder: a folder a stage")
    parser.add_argument("--to", type=Path, help="export: the folder (OUT/checkpoint, OUT/student) or file to write")
    parser.add_argument(
        "--from", dest="origin", type=Path, help="start: the checkpoint to go on from; of a student, its teacher's"
    )
    parser.add_argument("--take", choices=TAKE, default="all", help="start: what of the checkpoint is taken over")
    parser.add_argument(
        "--changes", action="store_true", help="export_student: only tensors that its teacher has otherwise"
    )
    parser.add_argument("--dump", type=Path, help="of a drafter: the folder of the language model's dumps")
    parser.add_argument("--model_path", type=Path, help="of a drafter: the checkpoint that made the dumps")
    parser.add_argument("--codes", help="early_exit, jacobi_forcing: codes files to learn from, as a pattern of paths")
    parser.add_argument("--dtype", choices=_DTYPES, default="bf16", help="export: how weights are stored")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, help="CPU threads")
    options = parser.parse_args(arguments)
    if options.threads:
        torch.set_num_threads(options.threads)
    device = torch.device(options.device)
    try:
        if options.config is None and options.stage != "export_lm":
            raise ValueError(f"{options.stage} needs --config FILE")
        if options.stage in (*CONTINUED, "export_lm"):
            if options.origin is None:
                raise ValueError(f"{options.stage} needs --from CHECKPOINT, whose language model is trained further")
            if options.stage == "export_lm":
                folder = options.to or options.out / "checkpoint"
                export_lm(options.origin, options.out, folder, _DTYPES[options.dtype])
                print(f"wrote {folder}")
                return 0
            run = (options.stage, options.config, options.origin, options.out)
            print(f"{options.stage}: {json.dumps(train_further(*run, device, options.codes))}")
            return 0
        if options.stage in (STUDENT, "export_student"):
            if options.origin is None:
                raise ValueError(f"{options.stage} needs --from CHECKPOINT, with its teacher")
            if options.stage == STUDENT:
                figures = train_flow_student(options.config, options.origin, options.out, device)
                print(f"{STUDENT}: {json.dumps(figures)}")
                return 0
            folder, dtype = options.to or options.out / "student", _DTYPES[options.dtype]
            export_student(options.config, options.origin, options.out, folder, dtype, not options.changes)
            print(f"wrote {folder}")
            return 0
        if options.stage in DRAFTER_STAGES:
            if options.dump is None or options.model_path is None:
                raise ValueError(f"{options.stage} needs --dump DIR and --model_path CHECKPOINT")
            settings = read_drafter_config(options.config)
            figures = train_drafter(options.stage, settings, options.dump, options.model_path, options.out, device)
            print(f"{options.stage}: {json.dumps(figures)}")
            return 0
        if options.stage == "export_drafter":
            path = options.to or options.out / "drafter.safetensors"
            export_drafter(read_drafter_config(options.config), options.out, path, _DTYPES[options.dtype])
            print(f"wrote {path}")
            return 0
        config = read_config(options.config)
        if options.stage == "start":
            if options.origin is None:
                raise ValueError("start needs --from CHECKPOINT")
            start_from(config, options.origin, options.out, options.take)
            return 0
        if options.stage == "export":
            folder = options.to or options.out / "checkpoint"
            export(config, options.out, folder, _DTYPES[options.dtype])
            print(f"wrote {folder}")
            return 0
        for stage in STAGES if options.stage == "all" else [options.stage]:
            figures = STAGES[stage](config, options.out, device)
            print(f"{stage}: {json.dumps(figures)}")
    except (ValueError, FileNotFoundError) as error:
        print(f"heartmula_train: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
