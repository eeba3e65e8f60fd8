"""The training loop that all stages share: schedule, checkpoints, resuming, logs."""

from __future__ import annotations

import json
import os
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter

from heartmula_train.stages.config import Training

LAST = "last.pt"
FINAL = "final.pt"
FIGURES = "figures.json"


class Task(ABC):
    """A stage: what is trained, its loss at a step, its validation figures.

    The batch of a step follows from the step's number alone, so that a resumed run goes on as if never cut off.
    """

    module: nn.Module

    @abstractmethod
    def losses(self, step: int, progress: float) -> dict[str, Tensor]:
        """Scalars; "loss" is minimised. `progress` is the part of the training that is done."""

    @abstractmethod
    def validate(self) -> dict[str, float]:
        """Figures on songs that are never trained on."""


def freeze_parts(module: nn.Module, frozen: Iterable[str], who: str) -> None:
    """Parts, named by how their parameters' names begin, stay as they are; `who` has them, for the error."""
    for part in frozen:
        parameters = [p for name, p in module.named_parameters() if name.startswith(part)]
        if not parameters:
            raise ValueError(f"{who} has no {part}")
        for parameter in parameters:
            parameter.requires_grad_(False)


def learning_rate(settings: Training, step: int, progress: float) -> float:
    """Warm-up, constant, linear decay to zero over the last part."""
    warm = min(1.0, (step + 1) / max(1, settings.warmup_steps))
    left = min(1.0, (1.0 - progress) / max(settings.decay_part, 1e-9))
    return settings.learning_rate * warm * left


def save_atomically(content: object, path: Path) -> None:
    """Writes beside the file, then replaces it: a cut-off run leaves the older one."""
    beside = path.with_suffix(".tmp")
    torch.save(content, beside)
    os.replace(beside, path)


def train(task: Task, settings: Training, folder: Path, seed: int, device: torch.device) -> dict[str, float]:
    """Trains, or goes on from folder/last.pt; writes final.pt and figures.json and returns the last figures."""
    if (folder / FINAL).exists():
        return json.loads((folder / FIGURES).read_text(encoding="utf-8"))
    folder.mkdir(parents=True, exist_ok=True)
    task.module.to(device)
    parameters = [p for p in task.module.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(
        parameters, settings.learning_rate, (settings.beta1, settings.beta2), weight_decay=settings.weight_decay
    )
    step, seconds = 0, 0.0
    if (folder / LAST).exists():
        stored = torch.load(folder / LAST, map_location=device, weights_only=True)
        task.module.load_state_dict(stored["module"])
        optimizer.load_state_dict(stored["optimizer"])
        step, seconds = stored["step"], stored["seconds"]
        print(f"{folder.name}: goes on from step {step}")

    def save() -> None:
        state = {"module": task.module.state_dict(), "optimizer": optimizer.state_dict()}
        save_atomically({**state, "step": step, "seconds": seconds}, folder / LAST)

    figures: dict[str, float] = {}
    saved = time.monotonic()
    with SummaryWriter(str(folder / "logs"), purge_step=step) as writer:
        while (progress := max(step / settings.steps, seconds / (60 * settings.minutes))) < 1.0:
            begin = time.monotonic()
            torch.manual_seed((seed << 32) + step)
            task.module.train()
            rate = learning_rate(settings, step, progress)
            for group in optimizer.param_groups:
                group["lr"] = rate
            with torch.autocast(device.type, torch.bfloat16, enabled=settings.bf16):
                losses = task.losses(step, progress)
            optimizer.zero_grad(set_to_none=True)
            losses["loss"].backward()
            norm = nn.utils.clip_grad_norm_(parameters, settings.clip)
            optimizer.step()
            for name, value in {**losses, "gradient_norm": norm}.items():
                writer.add_scalar(f"train/{name}", float(value.detach()), step)
            writer.add_scalar("train/learning_rate", rate, step)
            step += 1
            seconds += time.monotonic() - begin
            if step % settings.validate_every == 0:
                figures = record(_validated(task), writer, folder, step, seconds)
            if time.monotonic() - saved > settings.save_every_s:
                save()
                saved = time.monotonic()
        figures = record(_validated(task), writer, folder, step, seconds)
    return finish(folder, figures, task.module.state_dict())


def _validated(task: Task) -> dict[str, float]:
    task.module.eval()
    with torch.no_grad():
        return task.validate()


def record(
    figures: dict[str, float], writer: SummaryWriter, folder: Path, step: int, seconds: float
) -> dict[str, float]:
    """Validation figures into the logs and onto the screen; returns them with step and seconds."""
    for name, value in figures.items():
        writer.add_scalar(f"validation/{name}", value, step)
    shown = ", ".join(f"{name} {value:.4g}" for name, value in figures.items())
    print(f"{folder.name}: step {step}, {seconds:.0f} s: {shown}", flush=True)
    return {"step": step, "seconds": round(seconds, 1), **figures}


def finish(folder: Path, figures: dict[str, float], weights: dict[str, Tensor]) -> dict[str, float]:
    """A stage is done: final.pt and figures.json, and nothing to go on from."""
    (folder / FIGURES).write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    save_atomically(weights, folder / FINAL)
    (folder / LAST).unlink(missing_ok=True)
    return figures
