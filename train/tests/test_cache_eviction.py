"""A smaller cache: the share that is seen, what stays, and songs made with it."""

from __future__ import annotations

import pytest
import torch
from conftest import TINY

from heartmula_train.evaluation.cache_eviction import (
    PAGE,
    Evicting,
    Eviction,
    evicting,
    evictions,
    key_bases,
    saved,
    song_loss,
    survivors,
)
from heartmula_train.evaluation.kit_songs import song_inputs
from heartmula_train.lm.config import CODEBOOKS
from heartmula_train.lm.heartmula import HeartMuLa, LmSession
from heartmula_train.song.checkpoint import lm_folder, load_lm
from heartmula_train.stages.language_model import Example
from heartmula_train.text.prompt import Prompt

PROMPT, FRAMES = 5, 4 * PAGE + 3


@pytest.fixture(name="model")
def _model() -> HeartMuLa:
    return load_lm(TINY / lm_folder()).requires_grad_(False)


def _example(frames: int) -> Example:
    torch.manual_seed(1)
    return Example(Prompt([1, 2, 3, 4, 5], 1), torch.randint(8, (frames, CODEBOOKS)))


@pytest.mark.parametrize("eviction", evictions((0.25, 0.5), (2,)), ids=lambda eviction: eviction.name)
def test_a_mask_keeps_the_promised_share(eviction: Eviction) -> None:
    generator = torch.Generator().manual_seed(1)
    queries = torch.randn(2, 4, PROMPT + FRAMES, 8, generator=generator)
    keys, values = torch.randn(2, 2, 2, PROMPT + FRAMES, 8, generator=generator)
    masks = Evicting(eviction, [torch.eye(8).repeat(2, 1, 1)] * 2)
    masks.prompt = PROMPT
    mask = masks.mask(1, queries, keys, values)[:, 0]
    for query in range(PROMPT, PROMPT + FRAMES):
        frame = query - PROMPT
        own, full = frame % PAGE + 1, frame // PAGE
        assert bool(mask[:, query, :PROMPT].all()), "the prompt stays"
        assert bool(mask[:, query, max(PROMPT, query - PAGE + 1) : query + 1].all()), "what is newest stays"
        assert (mask[:, query].sum(-1) == PROMPT + own + PAGE * eviction.allowed(full)).all()
        step = masks.mask(1, queries[:, :, query : query + 1], keys[:, :, : query + 1], values[:, :, : query + 1])
        assert torch.equal(step[:, 0, 0], mask[:, query, : query + 1]), "a step sees what the whole pass sees"


def test_what_is_evicted_does_not_return() -> None:
    seen = survivors(Eviction("pages", 0.5), torch.tensor([[4.0, 1.0, 3.0, 2.0, 5.0, 0.0]]))[0]
    assert [row.nonzero()[:, 0].tolist() for row in seen] == [[0], [0, 1], [1, 2], [1, 2, 3], [2, 3, 4], [2, 3, 4, 5]]


@pytest.mark.parametrize("rule", ["window", "pages", "groups"])
def test_with_everything_kept_nothing_changes(model: HeartMuLa, rule: str) -> None:
    example = _example(2 * PAGE)
    bases = key_bases(model, [example])
    whole = song_loss(model, example, None)
    masks = Evicting(Eviction(rule, 1.0, rank=2), bases)
    torch.testing.assert_close(song_loss(model, example, masks), whole)
    assert masks.seen == masks.positions > 0
    less = Evicting(Eviction(rule, 0.25, rank=2), bases)
    assert torch.equal(song_loss(model, _example(PAGE), less), song_loss(model, _example(PAGE), masks)), "no full page"


@pytest.mark.parametrize("rule", ["window", "pages", "groups"])
def test_a_song_is_made_as_it_is_read(model: HeartMuLa, rule: str) -> None:
    example = _example(2 * PAGE + 1)
    masks = Evicting(Eviction(rule, 0.5, rank=2), key_bases(model, [example]))
    with evicting(model, masks):
        session = LmSession(model, guided=True)
        session.prefill(torch.tensor(example.prompt.text_ids), example.prompt.reference_index)
        for frame in example.codes[:-1]:
            session.feed(frame)
        assert masks.prompt == PROMPT
        read = model.backbone(song_inputs(model, example)[None])[0, -1]
    torch.testing.assert_close(session.hidden[0], read)
    assert not model.backbone.layers[0].attn._forward_pre_hooks


def test_bytes_of_the_real_size() -> None:
    ends = saved(Eviction("window", 0.25), 128)["8192 positions"]
    assert ends["cache"] == pytest.approx(1.879 / 12.411, abs=1e-3)
    assert ends["saved"] == pytest.approx(0.75 * 7792 / 8192 * ends["cache"], abs=1e-3)
    groups = saved(Eviction("groups", 0.25, rank=32), 128)["8192 positions"]
    assert groups["saved"] == pytest.approx(ends["saved"] * (0.75 - 0.125) / 0.75, abs=1e-3)
