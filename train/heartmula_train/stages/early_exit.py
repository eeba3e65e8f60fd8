"""Stage of its own: a language model whose first layers say what all of them would (LayerSkip, arXiv 2404.16710).

Against the paper: layers are counted from 1, so that the exit behind the first one has a weight, too; and what leaves
early is not only a token: code 0 is by the head that all exits share, codes 1 to 7 by the depth decoder, which learns
at each step from one exit beside the last layer. The depth decoder itself has neither dropout nor exits.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from heartmula_train.sampling.coupling import coupled_match, log_probabilities
from heartmula_train.stages.config import EarlyExit
from heartmula_train.stages.continued import ContinuedTask, whole_model_figures
from heartmula_train.stages.language_model import Example, heard_past


def dropout_rates(settings: EarlyExit, layers: int, progress: float) -> np.ndarray:
    """How often each layer is left out for a song, [layers]: nothing at the first, `layer_dropout` at the last."""
    depth = np.arange(layers) / max(1, layers - 1)
    ramp = min(1.0, progress / settings.dropout_ramp) if settings.dropout_ramp > 0 else 1.0
    return settings.layer_dropout * (2.0**depth - 1.0) * (2.0**ramp - 1.0)


def exits_on(settings: EarlyExit, layers: int, step: int, progress: float) -> np.ndarray:
    """Which exits are trained at a step, bool [layers]; the whole model always is."""
    behind = np.arange(1, layers + 1)  # this many layers
    on = (behind - step) % settings.exits_every == 0
    if settings.gradual:
        on &= progress >= (layers - behind) / (2 * layers)
    return on | (behind == layers)


def exit_weights(settings: EarlyExit, layers: int, on: np.ndarray) -> np.ndarray:
    """Weights of the exits' losses, [layers]; their sum is 1."""
    behind = np.arange(1, layers + 1)
    weights = settings.exit_scale * behind * (behind + 1) / 2
    weights[-1] = layers + settings.exit_scale * (layers - 1) * layers / 2
    weights = weights * on
    return weights / weights.sum()


class EarlyExitTask(ContinuedTask):
    """Cross-entropy of code 0 behind every layer, of all codes behind the last one and one exit."""

    settings: EarlyExit

    def losses(self, step: int, progress: float) -> dict[str, Tensor]:
        """Songs of a step; layers are left out for each song by itself."""
        settings, layers = self.settings, self.module.config.backbone.num_layers
        rng = np.random.default_rng((self.config.seed, 8, step))
        examples = self.songs(step, rng)
        conditional = rng.random(len(examples)) >= settings.drop_text
        batch = self.batch(
            examples, conditional, lambda codes: heard_past(codes, rng, settings.noisy_songs, settings.noise)
        )
        rates = dropout_rates(settings, layers, progress)
        kept = torch.from_numpy(rng.random((layers, len(examples))) >= rates[:, None])
        on = exits_on(settings, layers, step, progress)
        weights = exit_weights(settings, layers, on)
        early = np.flatnonzero(on[:-1])
        drawn = int(rng.choice(early)) if len(early) else None
        rows, positions = batch.rows_and_positions(self.device)
        codes = torch.cat(batch.codes)
        picks = [self.chosen(len(codes), settings.depth_frames, rng) for _ in range(2)]
        first, figures, exit_depth = torch.zeros((), device=self.device), {}, None
        for index, states in enumerate(self.module.backbone.exits(batch.inputs, kept)):
            if not on[index]:
                continue
            hidden = states[rows, positions]  # [N, D]
            nats = self.first_nats(hidden, codes)
            first = first + float(weights[index]) * nats
            figures[f"exit_{index + 1}"] = nats
            if index == drawn:
                exit_depth = self.depth_nats(hidden[picks[0]], codes[picks[0]])  # [7]
        depth = self.depth_nats(hidden[picks[1]], codes[picks[1]])
        taught = depth if exit_depth is None else torch.lerp(depth, exit_depth, settings.exit_depth)
        loss = (self.weights() * torch.cat((first[None], taught))).sum()
        if exit_depth is not None:
            figures["exit_depth"] = exit_depth.mean()
        return {**whole_model_figures(loss, nats, depth), **figures}

    def validate(self) -> dict[str, float]:
        """The whole model's nats, and how often each exit, drawing with the song's noise, says what the last layer
        does, at each temperature: code 0 (`match_LAYERS_TEMPERATURE`), all eight codes (`frame_...`).
        """
        rows = [self._figures(example, np.random.default_rng((9, i))) for i, example in enumerate(self._held_out)]
        return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}

    def _figures(self, example: Example, rng: np.random.Generator) -> dict[str, float]:
        batch = self.both_streams([example])
        codes, begin = batch.codes[0], batch.begins[0]
        picks = self.chosen(len(codes), self.settings.match_frames, rng)
        states = [
            state[:, begin - 1 : begin - 1 + len(codes)]  # [2, F, D]
            for state in self.module.backbone.exits(batch.inputs)
        ]
        first, depth = self.first_nats(states[-1][0], codes), self.depth_nats(states[-1][0], codes)
        loss = (self.weights() * torch.cat((first[None], depth))).sum()
        figures = {name: float(value) for name, value in whole_model_figures(loss, first, depth).items()}
        whole = self.guided_logits(states[-1][:, picks], codes[picks])  # [n, 8, V]
        for layers, state in enumerate(states[:-1], 1):
            draft = self.guided_logits(state[:, picks], codes[picks])
            for temperature in self.settings.temperatures:
                kept = [log_probabilities(logits, temperature, self.settings.topk) for logits in (whole, draft)]
                match = coupled_match(*kept, self.settings.topk)  # [n, 8]
                figures[f"match_{layers}_{temperature:g}"] = float(match[:, 0].mean())
                figures[f"frame_{layers}_{temperature:g}"] = float(match.prod(-1).mean())
        return figures
