"""A language model trained further: from a checkpoint's folder to another one."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import torch
from tokenizers import Tokenizer

from heartmula_train.codec.config import CodecConfig
from heartmula_train.lm.config import LmConfig
from heartmula_train.lm.heartmula import HeartMuLa
from heartmula_train.music.vocabulary import VOCABULARY
from heartmula_train.song.checkpoint import CODEC_FOLDER, lm_folder, load_lm, read_json, save_lm
from heartmula_train.stages.config import CONTINUED, ContinuedConfig, read_continued_config
from heartmula_train.stages.continued import (
    ContinuedTask,
    Examples,
    Prompting,
    examples_of_files,
    examples_of_music,
)
from heartmula_train.stages.early_exit import EarlyExitTask
from heartmula_train.stages.jacobi_forcing import JacobiForcingTask
from heartmula_train.stages.loop import FINAL, LAST, train
from heartmula_train.stages.run import ENCODER, QUANTIZER, TOKENIZER, exported_quantizer
from heartmula_train.text.prompt import GenConfig

TASKS: dict[str, type[ContinuedTask]] = {"early_exit": EarlyExitTask, "jacobi_forcing": JacobiForcingTask}
BEFORE = "figures_before.json"
GEN_CONFIG = "gen_config.json"
SHARD_BYTES = 5_000_000_000


def train_further(
    stage: str, config: Path, origin: Path, run: Path, device: torch.device, codes: str | None = None
) -> dict[str, float]:
    """The language model of the checkpoint `origin`, which stays as it is; `codes` names other codes files."""
    folder = run / stage
    task = make_task(stage, config, origin, codes)
    if not any((folder / name).exists() for name in (LAST, FINAL)):
        before = figures_of(task, device)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / BEFORE).write_text(json.dumps(before, indent=2) + "\n", encoding="utf-8")
        print(f"{stage}: before: " + ", ".join(f"{name} {value:.4g}" for name, value in before.items()), flush=True)
    return train(task, task.settings, folder, task.config.seed, device)


@torch.no_grad()
def figures_of(task: ContinuedTask, device: torch.device) -> dict[str, float]:
    """Validation figures of a task as it is."""
    task.module.to(device).eval()
    return task.validate()


def make_task(stage: str, config: Path, origin: Path, codes: str | None = None) -> ContinuedTask:
    """With the checkpoint's language model, and songs as its tokenizer and quantizer, or codes files, tell them."""
    _require(origin, f"{stage} trains it further", lm_folder())
    _require(origin, "prompts are made of it", TOKENIZER, GEN_CONFIG)
    codec = CodecConfig()
    if (origin / CODEC_FOLDER).exists():
        codec = CodecConfig.from_json(read_json(origin / CODEC_FOLDER / "config.json"))
    settings = read_continued_config(config, stage, codec)
    if codes:
        settings = replace(settings, continued=replace(settings.continued, codes=codes))
    return TASKS[stage](settings, load_lm(origin / lm_folder()), _examples(settings, origin))


def _examples(config: ContinuedConfig, origin: Path) -> Examples:
    tokenizer = Tokenizer.from_file(str(origin / TOKENIZER))
    prompting = Prompting(tokenizer, GenConfig(**read_json(origin / GEN_CONFIG)))
    if config.continued.codes != "music":
        return examples_of_files(config.continued.codes, config.continued.validation_songs, prompting)
    _require(origin, "songs of the kit get their codes by it; or name codes files with --codes", QUANTIZER)
    return examples_of_music(config, exported_quantizer(config, origin), prompting)


def export_lm(origin: Path, run: Path, out: Path, dtype: torch.dtype) -> None:
    """Writes a whole checkpoint: the run's language model, and what else makes songs as in `origin`."""
    finished = [stage for stage in CONTINUED if (run / stage / FINAL).exists()]
    if len(finished) != 1:
        found = " and ".join(finished) or "no language model"
        raise ValueError(f"{run}: has {found}; export_lm takes a run with one finished stage of {', '.join(CONTINUED)}")
    _require(origin, "the new checkpoint takes its parts over", lm_folder(), CODEC_FOLDER, TOKENIZER, GEN_CONFIG)
    if out.resolve() == origin.resolve():
        raise ValueError(f"{out}: is the checkpoint that the parts are taken from; name another folder with --to")
    model = HeartMuLa(LmConfig.from_json(read_json(origin / lm_folder() / "config.json")))
    model.load_state_dict(torch.load(run / finished[0] / FINAL, map_location="cpu", weights_only=True))
    size = sum(tensor.numel() for tensor in model.state_dict().values()) * dtype.itemsize
    save_lm(model, out / lm_folder(), dtype, SHARD_BYTES if size > SHARD_BYTES else None)
    for folder in origin.glob("HeartCodec-*"):
        shutil.copytree(folder, out / folder.name, dirs_exist_ok=True)
    for name in (TOKENIZER, GEN_CONFIG, VOCABULARY, QUANTIZER, ENCODER):
        if (origin / name).exists():
            shutil.copy(origin / name, out / name)


def _require(origin: Path, why: str, *names: str) -> None:
    for name in names:
        if not (origin / name).exists():
            raise FileNotFoundError(f"{origin / name}: not there, but {why}")
