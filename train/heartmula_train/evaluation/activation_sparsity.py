"""Two of four: what a language model loses if its MLPs keep the greatest two of each four activations.

Usage: python -m heartmula_train.evaluation.activation_sparsity --config configs/demo_gpu.toml --model_path ../demo \
  --temperature 0.8 --out RESULT.json

Activations are silu(W1 x) * W3 x, before W2 sums them up. Of each layer: the share of activations that are small beside
the root mean square, and beside the greatest, of their row; and how much of their energy the pruning drops. Of
held-out songs: nats a code of the whole model, with pruned backbone, depth decoder, both; and how much of the
backbone's W2 no row of guidance needs then. Of songs that the kit's own modules sample (with noise of their own), with
and without pruning: whether they follow their prompts (prompt_following).
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from heartmula_train.evaluation.kit_songs import KitSongs, examples_of, song_inputs, song_nats
from heartmula_train.evaluation.plans import EVALUATION_SEED, MAX_SECONDS
from heartmula_train.evaluation.program import ProgramError, Sampling
from heartmula_train.evaluation.prompt_following import OUTCOMES, measure_song, totals
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
from heartmula_train.song.checkpoint import load_checkpoint
from heartmula_train.stages.config import read_config
from heartmula_train.stages.continued import Prompting
from heartmula_train.stages.language_model import Example
from heartmula_train.stages.run import exported_quantizer

SMALL = (0.01, 0.1)
PARTS = ("backbone", "decoder")
_KEPT, _OF = 2, 4


def two_of_four(hidden: Tensor) -> Tensor:
    """[..., F] with all but the greatest two of each four in a row set to zero; F is a multiple of four."""
    groups = hidden.unflatten(-1, (-1, _OF))
    kept = groups.abs().topk(_KEPT, -1).indices
    return torch.zeros_like(groups).scatter(-1, kept, groups.gather(-1, kept)).flatten(-2)


def _products(model: HeartMuLa, parts: Sequence[str]) -> dict[str, nn.Module]:
    """W2 of each layer."""
    return {
        f"{part}.{index}": block.mlp.w2 for part in parts for index, block in enumerate(getattr(model, part).layers)
    }


@contextmanager
def pruned(model: HeartMuLa, parts: Sequence[str] = PARTS) -> Iterator[None]:
    """Inside, the MLPs of these parts sum two of four activations."""
    hooks = [
        product.register_forward_pre_hook(lambda _, inputs: (two_of_four(inputs[0]),))
        for product in _products(model, parts).values()
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


@dataclass
class LayerCounts:
    """Sums over the rows that a layer has seen."""

    values: int = 0
    below_rms: list[int] = field(default_factory=lambda: [0] * len(SMALL))
    below_greatest: list[int] = field(default_factory=lambda: [0] * len(SMALL))
    energy: float = 0.0
    dropped: float = 0.0

    def add(self, hidden: Tensor) -> None:
        """Of activations [..., F]."""
        sizes = hidden.abs()
        rms, greatest = hidden.pow(2).mean(-1, keepdim=True).sqrt(), sizes.amax(-1, keepdim=True)
        self.values += hidden.numel()
        for index, part in enumerate(SMALL):
            self.below_rms[index] += int((sizes < part * rms).sum())
            self.below_greatest[index] += int((sizes < part * greatest).sum())
        energy = hidden.double().pow(2).sum()
        self.energy += float(energy)
        self.dropped += float(energy - two_of_four(hidden).double().pow(2).sum())

    def shares(self) -> dict[str, float]:
        """Of all activations, and of their energy."""
        small = {
            f"below_{part:g}_of_{name}": round(count / self.values, 4)
            for name, counts in (("rms", self.below_rms), ("greatest", self.below_greatest))
            for part, count in zip(SMALL, counts, strict=True)
        }
        return {**small, "energy_dropped": round(self.dropped / self.energy, 4)}


@contextmanager
def counted(model: HeartMuLa) -> Iterator[dict[str, LayerCounts]]:
    """Counts of every layer, filled by what is computed inside."""
    products = _products(model, PARTS)
    counts = {name: LayerCounts() for name in products}
    hooks = [
        product.register_forward_pre_hook(lambda _, inputs, of=counts[name]: of.add(inputs[0]))
        for name, product in products.items()
    ]
    try:
        yield counts
    finally:
        for hook in hooks:
            hook.remove()


def unread(model: HeartMuLa, example: Example) -> dict[str, float]:
    """Of the backbone's W2, the share of columns, and of pairs of neighbouring ones, that pruning leaves without an
    activation in both rows of guidance: what a step would not have to read of it.
    """
    kept: list[Tensor] = []
    hooks = [
        product.register_forward_pre_hook(lambda _, inputs: kept.append(two_of_four(inputs[0][0]) != 0))
        for product in _products(model, PARTS[:1]).values()
    ]
    begin = len(example.prompt.text_ids)
    for conditional in (True, False):
        model.backbone(song_inputs(model, example, conditional)[None])
    for hook in hooks:
        hook.remove()
    layers = len(hooks)
    needed = torch.stack([kept[i][begin:] | kept[layers + i][begin:] for i in range(layers)])  # [L, T, F]
    pairs = needed.unflatten(-1, (-1, 2)).any(-1)
    return {"columns": float((~needed).float().mean()), "pairs": float((~pairs).float().mean())}


def losses(model: HeartMuLa, examples: Sequence[Example]) -> dict[str, dict[str, float]]:
    """Nats a code over the songs, by what is pruned."""
    found = {}
    for name, parts in (("nothing", ()), ("backbone", PARTS[:1]), ("decoder", PARTS[1:]), ("both", PARTS)):
        with pruned(model, parts):
            nats = torch.stack([song_nats(model, example) for example in examples]).mean(0)
        found[name] = {"codebook0": round(float(nats[0]), 4), "all": round(float(nats.mean()), 4)}
    return found


def main(arguments: list[str] | None = None) -> int:
    """Command line."""
    arguments = sys.argv[1:] if arguments is None else arguments
    parser = command_parser("activation_sparsity", __doc__)
    parser.add_argument("--config", type=Path, required=True, help="that the checkpoint was trained with")
    parser.add_argument("--model_path", type=Path, required=True, help="the checkpoint, with its quantizer")
    parser.add_argument("--held_out", type=int, default=24, help="songs to measure nats and shares on")
    parser.add_argument("--songs", type=int, default=60, help="songs to make, with pruning and without")
    add_sampling(parser)
    add_program(parser)
    options = parser.parse_args(arguments)
    sampling = sampling_of(options)
    torch.set_grad_enabled(False)
    try:
        checkpoint = load_checkpoint(options.model_path)
        program = KitSongs(options.program, options.threads, checkpoint=checkpoint)
        result = {**provenance("activation_sparsity", arguments), **program_provenance(program, options.model_path)}
        quantizer = exported_quantizer(read_config(options.config), options.model_path).eval()
        prompting = Prompting(checkpoint.tokenizer, checkpoint.gen_config)
        examples = examples_of(range(options.held_out), prompting, quantizer)
        with counted(checkpoint.lm) as counts:
            for example in examples:
                song_nats(checkpoint.lm, example)
        result["settings"] = {"plans_seed": EVALUATION_SEED, "max_seconds": MAX_SECONDS, **asdict(sampling)}
        result["layers"] = {name: of.shares() for name, of in counts.items()}
        result["nats"] = losses(checkpoint.lm, examples)
        shares = [unread(checkpoint.lm, example) for example in examples]
        result["unread"] = {name: round(sum(of[name] for of in shares) / len(shares), 4) for name in shares[0]}
        print(result["layers"], result["nats"], result["unread"], sep="\n", flush=True)
        result["songs"] = {
            name: totals(_songs(program, options.model_path, options.songs, sampling, parts))
            for name, parts in (("nothing", ()), ("both", PARTS))
            if options.songs
        }
    except (ProgramError, ValueError, OSError) as error:
        print(f"activation_sparsity: {error}", file=sys.stderr)
        return 2
    write_result(result, options.out)
    for name, total in result["songs"].items():
        print(f"pruned {name}:", *(f"{what} {total[what]['right']}" for what in (*OUTCOMES, "everything")))
    return 0


def _songs(
    program: KitSongs, model_path: Path, songs: int, sampling: Sampling, parts: Sequence[str]
) -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as folder, pruned(program.checkpoint.lm, parts):
        rows = []
        for number in range(songs):
            rows.append(measure_song(program, model_path, number, MAX_SECONDS, sampling, Path(folder)))
            print(f"song {number}, {len(parts)} parts pruned: {rows[-1]['right']}", flush=True)
        return rows


if __name__ == "__main__":
    sys.exit(main())
