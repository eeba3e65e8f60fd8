"""Stage of its own: a language model that is right behind wrong frames, too (Jacobi forcing, arXiv 2512.14681).

A block of the program's decoding with riders: frame a follows the last one that is known, `riders` more ride behind it.
At first all are copies of frame a - 1; each iteration draws them anew, each behind what the iteration before made of
those before it, always with the same noise. After i iterations the first i are right; that the others become right
sooner is what is learnt. So that this ends at the song, whose codes are given, the noise is drawn among the noise with
which the model, behind the right past, draws just these codes (`noise_that_draws`).

In a step the packed sequence is the song and its blocks, each seeing the song before it and itself. Blocks are taken
after 1, 2, ..., `riders` iterations in turn (the progressive noise schedule). What the frames behind wrong ones are
drawn by is pulled towards what they are drawn by behind the right past, which is held; the usual loss of the next
frame keeps this one where it is.

Against the paper: trajectories are made in the step, by the model as it is, with drawn codes, not collected before the
training with the likeliest ones; they end at given songs. A block sees the song before it as it is, and not earlier
blocks at their noise levels: so do riders in the program. Hence the order of noise levels does not matter. Blocks have
one size throughout, where the paper collects trajectories again with larger ones.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from heartmula_train.lm.config import CODEBOOKS
from heartmula_train.lm.transformer import KvCache, RecordedKeys
from heartmula_train.sampling.coupling import coupled_match, gumbel, log_probabilities, noise_that_draws
from heartmula_train.stages.config import JacobiForcing
from heartmula_train.stages.continued import Batch, ContinuedTask, whole_model_figures
from heartmula_train.stages.language_model import Example


@dataclass(frozen=True)
class Blocks:
    """Frames [S, K, n] of songs, n in each block, the right ones first; guesses [S, K, n, 8] of them."""

    frames: Tensor
    guesses: Tensor
    right: Tensor  # [S, K]: how many of a block's frames are right because they must be


@dataclass(frozen=True)
class HeardSongs:
    """A pass over songs in both streams: outputs [2, S, T, D] and what branches go on from."""

    batch: Batch
    begins: Tensor  # [S]
    codes: Tensor  # [S, F, 8], padded with zeros
    outputs: Tensor
    keys: RecordedKeys

    def behind(self, frames: Tensor) -> Tensor:
        """Outputs that frames [S, ...] of the songs are made from, [2, S, ..., D]."""
        songs = torch.arange(len(self.begins), device=frames.device).view(-1, *[1] * (frames.ndim - 1))
        return self.outputs[:, songs, self.begins.view(songs.shape) - 1 + frames]

    def codes_at(self, frames: Tensor) -> Tensor:
        """Codes [S, ..., 8] of frames [S, ...]."""
        songs = torch.arange(len(self.begins), device=frames.device).view(-1, *[1] * (frames.ndim - 1))
        return self.codes[songs, frames]


class JacobiForcingTask(ContinuedTask):
    """Cross-entropy of the next frame, and the divergence between codes behind guesses and behind the song."""

    settings: JacobiForcing

    def losses(self, step: int, progress: float) -> dict[str, Tensor]:
        """Songs of a step, each with its text and without it: what is drawn by is the guided distribution."""
        settings = self.settings
        rng = np.random.default_rng((self.config.seed, 10, step))
        examples = [song for song in self.songs(step, rng) if self._frames(song) > settings.riders + 2]
        if not examples:
            raise ValueError(f"no song of step {step} has more than {settings.riders + 2} frames")
        heard = self._hear(examples)
        first, depth = self._nats(heard, rng)
        next_frame = (self.weights() * torch.cat((first[None], depth))).sum()

        begins = [
            rng.integers(1, self._frames(song) - 1 - settings.riders, settings.blocks) for song in examples
        ]  # of blocks: a frame is before, and one behind
        frames = torch.from_numpy(np.stack(begins)).to(self.device)[..., None] + torch.arange(
            1 + settings.riders, device=self.device
        )
        iterations = 1 + (torch.arange(settings.blocks) + step) % settings.riders
        with torch.no_grad():
            blocks = self._trajectory(heard, frames, iterations.to(self.device).expand(len(examples), -1))
            logits = self._logits(heard.behind(frames + 1), heard.codes_at(frames + 1))  # [S, K, n, 8, V]
            clean = torch.log_softmax(logits / settings.temperature, -1)
        noisy = torch.arange(1 + settings.riders, device=self.device) >= blocks.right[..., None]  # [S, K, n]
        branched = self._branches(heard, blocks)  # [2, S, K, n, D]
        targets = heard.codes_at(frames + 1)[noisy]  # [M, 8]
        behind = torch.log_softmax(self.guided_logits(branched[:, noisy], targets) / settings.temperature, -1)
        clean = clean[noisy]
        divergence = (clean.exp() * (clean - behind)).sum(-1).mean()
        loss = next_frame + settings.consistency * divergence
        stood = (blocks.guesses == heard.codes_at(frames)).all(-1)[noisy].float().mean()
        return {**whole_model_figures(loss, first, depth), "divergence": divergence, "guesses_right": stood}

    def _frames(self, example: Example) -> int:
        return min(len(example.codes), self.settings.max_frames)

    def _hear(self, examples: list[Example]) -> HeardSongs:
        batch = self.both_streams(examples)
        keys = RecordedKeys(self.module.config.backbone.num_layers)
        outputs = self.module.backbone(batch.inputs, keys).unflatten(0, (2, -1))
        codes = torch.nn.utils.rnn.pad_sequence(batch.codes, batch_first=True)
        return HeardSongs(batch, torch.tensor(batch.begins, device=self.device), codes, outputs, keys)

    def _nats(self, heard: HeardSongs, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Of code 0, and of codes 1 to 7: with the text, and with `drop_text` of the weight without it."""
        rows, positions = heard.batch.rows_and_positions(self.device)
        codes = torch.cat(heard.batch.codes)
        picks = self.chosen(len(codes), self.settings.depth_frames, rng)
        streams = []
        for outputs in heard.outputs:
            hidden = outputs[rows, positions]
            streams.append((self.first_nats(hidden, codes), self.depth_nats(hidden[picks], codes[picks])))
        (first, depth), (first_without, depth_without) = streams
        drop = self.settings.drop_text
        return torch.lerp(first, first_without, drop), torch.lerp(depth, depth_without, drop)

    def _logits(self, hidden: Tensor, codes: Tensor) -> Tensor:
        """hidden [2, ..., D], codes [..., 8] -> guided logits [..., 8, V]."""
        logits = self.guided_logits(hidden.flatten(1, -2), codes.flatten(0, -2))
        return logits.unflatten(0, codes.shape[:-1])

    def _branches(self, heard: HeardSongs, blocks: Blocks) -> Tensor:
        """Outputs at the blocks' frames, [2, S, K, n, D]: each sees the song before its block, and its block."""
        songs, count, size = blocks.frames.shape
        positions = (heard.begins[:, None, None] + blocks.frames).flatten(1)  # [S, K n]
        seen = (
            torch.arange(heard.outputs.shape[2], device=self.device)
            < (heard.begins[:, None] + blocks.frames[:, :, 0]).repeat_interleave(size, 1)[..., None]
        )  # [S, K n, T]
        own = torch.block_diag(*[torch.ones(size, size, device=self.device).tril()] * count).bool()
        mask = torch.cat((seen, own.expand(songs, -1, -1)), -1)
        inputs = self.module.embed_frames(blocks.guesses).flatten(1, 2)  # [S, K n, D]
        both = self.module.backbone.branches(
            inputs.repeat(2, 1, 1), positions.repeat(2, 1), heard.keys, mask.repeat(2, 1, 1)
        )
        return both.unflatten(0, (2, songs)).unflatten(2, (count, size))

    def _trajectory(self, heard: HeardSongs, frames: Tensor, iterations: Tensor) -> Blocks:
        """Blocks of frames [S, K, n] after iterations [S, K] of drawing them, first as copies of the frame before."""
        settings, size = self.settings, frames.shape[-1]
        song = heard.codes_at(frames)
        logits = self._logits(heard.behind(frames), song)
        noise = noise_that_draws(log_probabilities(logits, settings.temperature, settings.topk), song)
        guesses = heard.codes_at(frames[..., :1] - 1).expand(-1, -1, size, -1)
        places = torch.arange(size, device=self.device)
        taken = guesses
        for iteration in range(1, int(iterations.max()) + 1):
            hidden = self._branches(heard, Blocks(frames, guesses, iterations))[..., :-1, :]
            drawn = self._draw(hidden.flatten(1, 3), noise[..., 1:, :, :].flatten(0, 2)).unflatten(
                0, (*frames.shape[:2], size - 1)
            )
            drawn = torch.cat((song[..., :1, :], drawn), -2)
            # Behind frames that are right, the noise draws the song, but for rounding.
            guesses = torch.where((places < iteration)[:, None], song, drawn)
            taken = torch.where((iterations == iteration)[..., None, None], guesses, taken)
        return Blocks(frames, taken, iterations)

    def _draw(self, hidden: Tensor, noise: Tensor, temperature: float | None = None) -> Tensor:
        """hidden [2, N, D], Gumbel noise [N, 8, V] -> codes [N, 8], each given those before it in its frame."""
        model, temperature = self.module, temperature or self.settings.temperature
        cache, codes = KvCache(model.config.decoder.num_layers), []
        for codebook in range(CODEBOOKS):
            if codebook == 0:
                logits = model.first_logits(hidden)
            else:
                embedded = model.audio_embeddings(codes[-1] + (codebook - 1) * model.config.audio_vocab_size)
                embedded = embedded.repeat(2, 1)[:, None]
                if codebook == 1:
                    # one pass over both, as nothing is cached
                    embedded = torch.cat((hidden.flatten(0, 1)[:, None], embedded), 1)
                output = model.decoder(model.projection(embedded), cache)[:, -1]
                logits = (output @ model.audio_head[codebook - 1]).unflatten(0, (2, -1))
            log_p = log_probabilities(self.guided(logits.float()), temperature, self.settings.topk)
            codes.append((log_p + noise[:, codebook]).argmax(-1))
        return torch.stack(codes, -1)

    def validate(self) -> dict[str, float]:
        """The model's nats, and how often a frame behind one that was drawn anew is, with the song's noise, what it is
        behind the song, at each temperature: code 0 (`code0_T`), all eight codes (`frame_T`).
        """
        torch.manual_seed(11)
        rows = [self._figures(example, np.random.default_rng((11, i))) for i, example in enumerate(self._held_out)]
        return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}

    def _figures(self, example: Example, rng: np.random.Generator) -> dict[str, float]:
        heard = self._hear([example])
        first, depth = self._nats(heard, rng)
        loss = (self.weights() * torch.cat((first[None], depth))).sum()
        figures = {name: float(value) for name, value in whole_model_figures(loss, first, depth).items()}
        last = self._frames(example) - 1
        picks = np.sort(rng.permutation(np.arange(1, last))[: self.settings.match_frames])
        frames = torch.from_numpy(picks).to(self.device)[None, :, None]  # [1, K, 1]
        targets = heard.codes_at(frames + 1)
        clean = self._logits(heard.behind(frames + 1), targets)
        vocabulary = clean.shape[-1]
        for temperature in self.settings.temperatures:
            noise = gumbel(torch.Size((len(picks), CODEBOOKS, vocabulary)), self.device)
            anew = self._draw(heard.behind(frames).flatten(1, 3), noise, temperature)[None, :, None]
            blocks = Blocks(frames, anew, torch.zeros_like(frames[..., 0]))
            behind = self._logits(self._branches(heard, blocks), targets)
            kept = [log_probabilities(logits, temperature, self.settings.topk) for logits in (clean, behind)]
            match = coupled_match(*kept, self.settings.topk)  # [1, K, 1, 8]
            figures[f"code0_{temperature:g}"] = float(match[..., 0].mean())
            figures[f"frame_{temperature:g}"] = float(match.prod(-1).mean())
        return figures
