"""A smaller cache: what songs lose if the backbone's attention sees a share of the past frames' keys and values.

Usage: python -m heartmula_train.evaluation.cache_eviction --config configs/demo_gpu.toml --model_path ../demo \
  --temperature 0.8 --out RESULT.json

Frames lie in pages of 16. A frame sees the prompt, the page that it is in, the last full page, and others up to the
share of the full pages, rounded up. Which ones they are is said by a rule:

- `window`: the newest; in all layers, or in every second one (SWAA, arXiv:2512.10411);
- `pages`: those with the greatest mean |V| / |K|; what has once been left out does not return (PagedEviction,
  arXiv:2509.04377);
- `groups`: those that get most of the attention which the frame's query would pay to keys of low rank (KVSwap,
  arXiv:2511.11907). With as many dimensions as a head has, the best choice of all.

Of held-out songs: nats a code. Of songs that the kit's own modules sample (with noise of their own): whether they
follow their prompts, and their Frechet distance to the synthesized ones. Of the 3B model: what of a frame's bytes is
saved.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from heartmula_train.evaluation.frechet import Gaussian, frechet_distance, song_vectors
from heartmula_train.evaluation.kit_songs import KitSongs, examples_of, song_inputs, song_nats
from heartmula_train.evaluation.plans import EVALUATION_SEED, MAX_SECONDS, evaluation_plan
from heartmula_train.evaluation.program import ProgramError, Sampling, read_wav
from heartmula_train.evaluation.prompt_following import measure_song, totals
from heartmula_train.evaluation.record import (
    add_program,
    add_sampling,
    command_parser,
    program_provenance,
    provenance,
    sampling_of,
    write_result,
)
from heartmula_train.lm.heartmula import HeartMuLa
from heartmula_train.lm.transformer import Attention, RecordedKeys, rotate
from heartmula_train.music.render import render
from heartmula_train.song.checkpoint import load_checkpoint
from heartmula_train.stages.config import read_config
from heartmula_train.stages.continued import Prompting
from heartmula_train.stages.language_model import Example
from heartmula_train.stages.run import exported_quantizer

PAGE = 16
SHARES = (0.25, 0.5, 0.75)
_CALIBRATION = range(1000, 1002)  # songs whose keys the low rank is fitted to

# A frame of the 3B model with guidance, in bfloat16, and its keys and values.
_FRAME_BYTES = 10_532e6
_POSITION_BYTES = 2 * 28 * 2 * 1024 * 2
_PROMPT = 400
_PLACES = {"minute 3": _PROMPT + 2250, "8192 positions": 8192}


@dataclass(frozen=True)
class Eviction:
    """What of the full pages is kept, in every `step`-th layer; `rank` of a head's dimensions predict groups."""

    rule: str
    share: float
    step: int = 1
    rank: int = 0

    @property
    def name(self) -> str:
        """As the tables say it."""
        more = ", every second layer" if self.step == 2 else f", rank {self.rank}" if self.rank else ""
        return f"{self.rule} {100 * self.share:g} %{more}"

    def allowed(self, full: int) -> int:
        """Pages kept of the full ones."""
        return min(full, max(1, ceil(self.share * full)))


def evictions(shares: Sequence[float], ranks: Sequence[int]) -> list[Eviction]:
    """All that are measured."""
    rules = [("window", 2, 0), ("window", 1, 0), ("pages", 1, 0), *(("groups", 1, rank) for rank in ranks)]
    return [Eviction(rule, share, step, rank) for rule, step, rank in rules for share in shares]


def chosen(eviction: Eviction, scores: Tensor, query_pages: Tensor) -> Tensor:
    """Scores [B, T, N] of the pages for queries in pages query_pages [T] -> what is seen, bool [B, T, N]."""
    pages, own = torch.arange(scores.shape[-1]), query_pages[:, None]
    scores = scores.masked_fill(pages >= own, -torch.inf).masked_fill(pages == own - 1, torch.inf)
    places = scores.argsort(dim=-1, descending=True, stable=True).argsort(dim=-1)
    allowed = torch.tensor([eviction.allowed(int(full)) for full in query_pages])
    return (places < allowed[:, None]) & (pages < own) | (pages == own)


def survivors(eviction: Eviction, scores: Tensor) -> Tensor:
    """Scores [B, N] of pages -> bool [B, N, N]: what a query in page i sees of page j if none comes back."""
    rows, pages = scores.shape
    seen = torch.eye(pages, dtype=torch.bool).repeat(rows, 1, 1)
    for row, of in enumerate(scores.tolist()):
        kept: list[int] = []
        for page in range(1, pages):
            kept.append(page - 1)
            while len(kept) > eviction.allowed(page):
                kept.remove(min(kept[:-1], key=of.__getitem__))
            seen[row, page, kept] = True
    return seen


def page_means(values: Tensor, pages: int) -> Tensor:
    """[B, F] -> [B, pages]; the last page may not be full."""
    counts = torch.zeros(pages).index_add(0, torch.arange(values.shape[1]) // PAGE, torch.ones(values.shape[1]))
    return page_sums(values, pages) / counts


def page_sums(values: Tensor, pages: int) -> Tensor:
    """[..., F] -> [..., pages]."""
    missing = pages * PAGE - values.shape[-1]
    return torch.nn.functional.pad(values, (0, missing)).unflatten(-1, (pages, PAGE)).sum(-1)


class Evicting:
    """Masks for the backbone of one model; counts what they let pass."""

    def __init__(self, eviction: Eviction, bases: Sequence[Tensor] = ()) -> None:
        self.eviction = eviction
        self.prompt = 0  # of the song that is read; one that is made says it by its first pass
        self.positions = self.seen = 0
        self._bases = [basis[..., : eviction.rank] for basis in bases]

    def mask(self, layer: int, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """Rotated q [B, H, T, hd] of the last of positions k, v [B, Hkv, S, hd] -> bool [B, 1, T, S]."""
        begin, end = keys.shape[2] - queries.shape[2], keys.shape[2]
        at = torch.arange(begin, end)
        causal = (torch.arange(end) <= at[:, None]).expand(keys.shape[0], -1, -1)  # [B, T, S]
        frames = end - self.prompt
        if frames <= 0 or (layer + 1) % self.eviction.step:
            self._count(causal, causal, at)
            return causal[:, None]
        pages = -(-frames // PAGE)
        query_pages = (at - self.prompt).clamp(min=0) // PAGE
        if self.eviction.rule == "pages":
            k, v = (x[:, :, self.prompt :].transpose(1, 2).flatten(2).norm(dim=-1) for x in (keys, values))
            by_page = survivors(self.eviction, page_means(v / k, pages))[:, query_pages]
        elif self.eviction.rule == "window":
            scores = torch.arange(float(pages)).expand(keys.shape[0], len(at), -1)
            by_page = chosen(self.eviction, scores, query_pages)
        else:
            attention = self._predicted(layer, queries, keys, causal)[..., self.prompt :]
            by_page = chosen(self.eviction, page_sums(attention, pages), query_pages)
        allowed = by_page.repeat_interleave(PAGE, -1)[..., :frames]
        prompt = torch.ones(*allowed.shape[:2], self.prompt, dtype=torch.bool)
        seen = torch.cat((prompt, allowed), -1) & causal
        self._count(seen, causal, at)
        return seen[:, None]

    def _predicted(self, layer: int, queries: Tensor, keys: Tensor, causal: Tensor) -> Tensor:
        """Attention by keys of low rank, summed over heads, [B, T, S]."""
        basis, group = self._bases[layer], queries.shape[1] // keys.shape[1]
        q = queries @ basis.repeat_interleave(group, 0)
        k = (keys @ basis).repeat_interleave(group, 1)
        logits = q @ k.transpose(-1, -2) * queries.shape[-1] ** -0.5
        return logits.masked_fill(~causal[:, None], -torch.inf).softmax(-1).sum(1)

    def _count(self, seen: Tensor, causal: Tensor, at: Tensor) -> None:
        of_frames = at >= self.prompt
        self.positions += int(causal[:, of_frames].sum())
        self.seen += int(seen[:, of_frames].sum())


@contextmanager
def evicting(model: HeartMuLa, masks: Evicting | None) -> Iterator[None]:
    """Inside, the backbone's layers see what the masks let them see."""

    def masked(attention: Attention, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        x, cos, sin, cache, layer, *_ = inputs
        q, k, v = projected(attention, x, cos, sin)
        if cache is not None and cache.length == 0:
            masks.prompt = x.shape[1]
        held = cache._layers[layer] if cache is not None else None
        if held is not None:
            k, v = torch.cat((held[0], k), 2), torch.cat((held[1], v), 2)
        return x, cos, sin, cache, layer, masks.mask(layer, q, k, v)

    blocks = model.backbone.layers if masks else ()
    hooks = [block.attn.register_forward_pre_hook(masked) for block in blocks]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def projected(attention: Attention, x: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Rotated queries and keys, and values, as attention makes them: [B, heads, T, hd]."""
    q, k, v = (
        product(x).unflatten(-1, (-1, attention.head_dim))
        for product in (attention.q_proj, attention.k_proj, attention.v_proj)
    )
    return rotate(q, cos, sin).transpose(1, 2), rotate(k, cos, sin).transpose(1, 2), v.transpose(1, 2)


def key_bases(model: HeartMuLa, examples: Sequence[Example]) -> list[Tensor]:
    """Of each layer the directions of each head's keys, the greatest first, [Hkv, hd, hd]."""
    moments: list[Tensor | float] = [0.0] * len(model.backbone.layers)
    for example in examples:
        for conditional in (True, False):
            recorded = RecordedKeys(len(moments))
            model.backbone(song_inputs(model, example, conditional)[None], recorded)
            for layer, (keys, _) in enumerate(recorded._layers):
                moments[layer] += keys[0].transpose(-1, -2).double() @ keys[0].double()
    return [torch.linalg.eigh(moment).eigenvectors.flip(-1).float() for moment in moments]


def song_loss(model: HeartMuLa, example: Example, masks: Evicting | None) -> Tensor:
    """Nats of each codebook of a song, [8]."""
    if masks:
        masks.prompt = len(example.prompt.text_ids)
    with evicting(model, masks):
        return song_nats(model, example)


def saved(eviction: Eviction, head_dim: int) -> dict[str, Any]:
    """Of the 3B model's bytes for a frame: what keys and values are, what is saved of all, how much faster at most."""
    found = {}
    for place, positions in _PLACES.items():
        whole, frames = positions * _POSITION_BYTES, (positions - _PROMPT) * _POSITION_BYTES
        spared = frames * (1 - eviction.share) / eviction.step
        if eviction.rank:
            spared -= frames / 2 * eviction.rank / head_dim  # what predicts is read of all keys
        before = _FRAME_BYTES + whole
        found[place] = {
            "cache": round(whole / before, 4),
            "saved": round(spared / before, 4),
            "faster": round(before / (before - spared), 3),
        }
    return found


def main(arguments: list[str] | None = None) -> int:
    """Command line."""
    arguments = sys.argv[1:] if arguments is None else arguments
    parser = command_parser("cache_eviction", __doc__)
    parser.add_argument("--config", type=Path, required=True, help="that the checkpoint was trained with")
    parser.add_argument("--model_path", type=Path, required=True, help="the checkpoint, with its quantizer")
    parser.add_argument("--held_out", type=int, default=12, help="songs to measure nats on")
    parser.add_argument("--songs", type=int, default=12, help="songs to make with each rule")
    parser.add_argument(
        "--ranks", type=int, nargs="*", default=[16, 64], help="of keys that predict groups; songs with the first"
    )
    add_sampling(parser)
    add_program(parser)
    options = parser.parse_args(arguments)
    sampling = sampling_of(options)
    torch.set_grad_enabled(False)
    try:
        checkpoint = load_checkpoint(options.model_path)
        model, head_dim = checkpoint.lm, checkpoint.lm.config.backbone.head_dim
        program = KitSongs(options.program, options.threads, checkpoint=checkpoint)
        result = {**provenance("cache_eviction", arguments), **program_provenance(program, options.model_path)}
        result["settings"] = {"page": PAGE, "plans_seed": EVALUATION_SEED, "max_seconds": MAX_SECONDS}
        result["settings"] |= asdict(sampling)
        quantizer = exported_quantizer(read_config(options.config), options.model_path).eval()
        prompting = Prompting(checkpoint.tokenizer, checkpoint.gen_config)
        bases = key_bases(model, examples_of(_CALIBRATION, prompting, quantizer))
        settings = evictions(SHARES, options.ranks)
        result["bytes"] = {eviction.name: saved(eviction, head_dim) for eviction in settings}
        result["nats"] = {}
        held_out = examples_of(range(options.held_out), prompting, quantizer)
        for eviction in (None, *settings):
            masks = Evicting(eviction, bases) if eviction else None
            nats = torch.stack([song_loss(model, example, masks) for example in held_out]).mean(0)
            name = eviction.name if eviction else "everything"
            result["nats"][name] = {
                "codebook0": round(float(nats[0]), 4),
                "all": round(float(nats.mean()), 4),
                "seen": round(masks.seen / masks.positions, 4) if masks else 1.0,
            }
            print(name, result["nats"][name], flush=True)
        sampled = [eviction for eviction in settings if eviction.rank in (0, *options.ranks[:1])]
        result["songs"] = {}
        write_result(result, options.out)
        with tempfile.TemporaryDirectory() as folder:
            for songs in _made(program, options, sampling, (None, *sampled), bases, Path(folder)):
                result["songs"] = songs
                write_result(result, options.out)  # after each song, as they take long
    except (ProgramError, ValueError, OSError) as error:
        print(f"cache_eviction: {error}", file=sys.stderr)
        return 2
    return 0


def _made(
    program: KitSongs,
    options: Any,
    sampling: Sampling,
    settings: Sequence[Eviction | None],
    bases: Sequence[Tensor],
    folder: Path,
) -> Iterator[dict[str, Any]]:
    """What is known of the songs so far, after each song made with all settings."""
    rows: dict[str, list[dict[str, Any]]] = {}
    spectra: dict[str, list[np.ndarray]] = {}
    for number in range(options.songs):
        wanted = np.concatenate([*spectra.get("plans", []), song_vectors(render(evaluation_plan(number)))])
        spectra["plans"] = [wanted]
        found = {}
        for eviction in settings:
            name = eviction.name if eviction else "everything"
            masks = Evicting(eviction, bases) if eviction else None
            with evicting(program.checkpoint.lm, masks):
                row = measure_song(program, options.model_path, number, MAX_SECONDS, sampling, folder)
            rows.setdefault(name, []).append(row)
            print(f"song {number}, {name}: {row['right']}", flush=True)
            heard = spectra.setdefault(name, [])
            heard.append(song_vectors(read_wav(folder / f"song-{number:03d}.wav")))
            distance = frechet_distance(Gaussian.of(wanted), Gaussian.of(np.concatenate(heard)))
            found[name] = {**totals(rows[name]), "frechet": round(distance, 1)}
        yield found


if __name__ == "__main__":
    sys.exit(main())
