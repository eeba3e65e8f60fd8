"""The stages of a drafter's run, and its file: drafter.safetensors, which `heartmula generate --drafter` reads."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn

from heartmula_train.drafters.dumps import Dumps
from heartmula_train.drafters.language_model import DepthEnds, LanguageModelEnds
from heartmula_train.drafters.modules import FrameDrafter, MedusaHeads, MicroDepthDecoder
from heartmula_train.lm.config import TransformerConfig
from heartmula_train.song.checkpoint import lm_folder, load_weights, read_json, stored_tensors, write_json
from heartmula_train.stages.config import DrafterConfig, Drafting, MedusaHeading
from heartmula_train.stages.drafter_tasks import FrameDrafterTask, MedusaTask, MicroDepthTask
from heartmula_train.stages.loop import FINAL, Task, train

METADATA = "heartmula_drafter"
VERSION = 1
ABOUT = "drafter.json"  # in the run: what all its stages have in common
_POSITIONS = 8  # of the micro depth decoder: h and seven codes
_WRITTEN = ("num_layers", "num_heads", "num_kv_heads", "embed_dim", "intermediate_dim", "max_seq_len")
_OF_THE_MODEL = ("norm_eps", "rope_base", "scale_factor")


@dataclass(frozen=True)
class _Origin:
    """What a stage learns from."""

    config: DrafterConfig
    model: Path  # its folder
    ends: LanguageModelEnds
    dumps: Dumps
    run: Path
    device: torch.device

    def depth(self) -> MicroDepthDecoder:
        """As stage micro_depth left it."""
        about = read_json(self.run / ABOUT)
        return _finished(_micro_depth(self.config, about), self.run / "micro_depth").to(self.device)


def _micro_depth_task(origin: _Origin, settings: Drafting) -> Task:
    sizes = _sizes(origin.config.depth, asdict(origin.ends.config.backbone))
    task = MicroDepthTask(settings, sizes, origin.ends, origin.dumps, origin.config.seed)
    task.module.begin_as(DepthEnds.load(origin.model), origin.dumps.first.cfg_scale)
    return task


def _frame_task(origin: _Origin, settings: Drafting) -> Task:
    if origin.config.frame is None:
        raise ValueError("frame_drafter needs its sizes, a table [frame]")
    sizes = _sizes(origin.config.frame, asdict(origin.ends.config.backbone))
    return FrameDrafterTask(settings, sizes, origin.ends, origin.depth(), origin.dumps, origin.config.seed)


def _medusa_task(origin: _Origin, settings: MedusaHeading) -> Task:
    return MedusaTask(settings, origin.ends, origin.depth(), origin.dumps, origin.config.seed, plain=False)


def _multi_token_task(origin: _Origin, settings: MedusaHeading) -> Task:
    return MedusaTask(settings, origin.ends, origin.depth(), origin.dumps, origin.config.seed, plain=True)


_TASKS: dict[str, Callable[[_Origin, Any], Task]] = {
    "micro_depth": _micro_depth_task,
    "frame_drafter": _frame_task,
    "medusa": _medusa_task,
    "multi_token": _multi_token_task,
}
DRAFTER_STAGES = tuple(_TASKS)


def train_drafter(
    stage: str, config: DrafterConfig, folder: Path, checkpoint: Path, run: Path, device: torch.device
) -> dict[str, float]:
    """One stage, on the dumps of a folder, which the language model of `checkpoint` has made."""
    settings = getattr(config, stage)
    if settings is None:
        raise ValueError(f"the configuration has no table [{stage}]")
    if stage != "micro_depth" and not (run / "micro_depth" / FINAL).exists():
        raise FileNotFoundError(f"{run / 'micro_depth' / FINAL}: stage micro_depth is not finished")
    if config.depth.max_seq_len != _POSITIONS:
        raise ValueError(f"[depth] max_seq_len is {config.depth.max_seq_len}; a frame has {_POSITIONS} positions")
    dumps = Dumps.open(folder, settings.validation_songs)
    model = checkpoint / lm_folder()
    ends = LanguageModelEnds.load(model).to(device)
    check_origin(ends, dumps)
    remember(run, ends, dumps)
    task = _TASKS[stage](_Origin(config, model, ends, dumps, run, device), settings)
    return train(task, settings, run / stage, config.seed, device)


def check_origin(ends: LanguageModelEnds, dumps: Dumps) -> None:
    """The language model's first head must say of a frame's h what the dump says."""
    width = ends.config.backbone.embed_dim
    if dumps.first.embed_dim != width:
        raise ValueError(f"{dumps.first.path}: its embed_dim is {dumps.first.embed_dim}, the language model's {width}")
    frames = dumps.first.read(0, min(8, dumps.first.frames)).to(ends.device).flat()
    stored, tokens = frames.logits[:, 0, 0], frames.tokens[:, 0, :1]
    if int(frames.codes.max()) >= ends.config.audio_vocab_size or int(tokens.max()) >= ends.config.audio_vocab_size:
        raise ValueError(f"{dumps.first.path}: has codes that the language model does not have")
    ours = ends.first_logits(frames.hidden, dumps.first.cfg_scale).gather(-1, tokens)[:, 0]
    if not torch.allclose(ours, stored, rtol=0.05, atol=0.25):
        raise ValueError(
            f"{dumps.first.path}: its logits of codebook 0 are not this language model's"
            f" ({float((ours - stored).abs().max()):.2g} apart)"
        )


def remember(run: Path, ends: LanguageModelEnds, dumps: Dumps) -> None:
    """Writes down what all stages of a run share; a run has one language model."""
    about = {
        "embed_dim": dumps.first.embed_dim,
        "audio_vocab_size": ends.config.audio_vocab_size,
        "cfg_scale": dumps.first.cfg_scale,
        "language_model": dumps.first.language_model,
        **{name: getattr(ends.config.backbone, name) for name in _OF_THE_MODEL},
    }
    if not (run / ABOUT).exists():
        run.mkdir(parents=True, exist_ok=True)
        write_json(run / ABOUT, about)
    for name, value in read_json(run / ABOUT).items():
        if about[name] != value:
            raise ValueError(f"{run}: this run was begun with {name} {value}; the dumps have {about[name]}")


def export_drafter(config: DrafterConfig, run: Path, path: Path, dtype: torch.dtype) -> None:
    """The parts that are finished; of heads the Medusa ones, or else the multi-token ones."""
    if not (run / ABOUT).exists():
        raise FileNotFoundError(f"{run / ABOUT}: no drafter was begun in this run")
    about = read_json(run / ABOUT)
    told: dict[str, Any] = {
        "version": VERSION,
        **{name: about[name] for name in ("embed_dim", "audio_vocab_size", "cfg_scale")},
    }
    parts: dict[str, nn.Module] = {}

    def add(name: str, stage: str, module: nn.Module, sizes: dict[str, Any]) -> None:
        parts[name] = _finished(module, run / stage)
        told[name] = sizes

    add("depth", "micro_depth", _micro_depth(config, about), _written(config.depth))
    if config.frame is not None and (run / "frame_drafter" / FINAL).exists():
        drafter = FrameDrafter(about["embed_dim"], _sizes(config.frame, about))
        add("frame", "frame_drafter", drafter, _written(config.frame))
    for stage in ("medusa", "multi_token"):
        settings = getattr(config, stage)
        if settings is not None and (run / stage / FINAL).exists():
            add("medusa", stage, MedusaHeads(about["embed_dim"], settings.heads), {"heads": settings.heads})
            break
    tensors = {
        f"{part}.{name}": tensor
        for part, module in parts.items()
        for name, tensor in stored_tensors(module, dtype).items()
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, path, {"format": "pt", METADATA: json.dumps(told)})
    path.chmod(0o644)


def _sizes(sizes: TransformerConfig, model: dict[str, Any]) -> TransformerConfig:
    """With the language model's norm and RoPE."""
    return replace(sizes, **{name: model[name] for name in _OF_THE_MODEL})


def _written(sizes: TransformerConfig) -> dict[str, int]:
    return {name: getattr(sizes, name) for name in _WRITTEN}


def _micro_depth(config: DrafterConfig, about: dict[str, Any]) -> MicroDepthDecoder:
    return MicroDepthDecoder(about["embed_dim"], about["audio_vocab_size"], _sizes(config.depth, about))


def _finished(module: nn.Module, folder: Path) -> nn.Module:
    if not (folder / FINAL).exists():
        raise FileNotFoundError(f"{folder / FINAL}: stage {folder.name} is not finished")
    weights = torch.load(folder / FINAL, map_location="cpu", weights_only=True)
    load_weights(module, weights, folder / FINAL)
    return module.eval()
