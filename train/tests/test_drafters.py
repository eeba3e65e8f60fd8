"""Drafters: plain equations, rates against simulations, every stage for a few steps, their file."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest
import torch
from conftest import TINY
from dumps import GUIDANCE, TOPK, write_dump
from safetensors import safe_open
from torch import Tensor, nn

from heartmula_train.__main__ import main
from heartmula_train.drafters.coupling import (
    acceptance,
    at_tokens,
    candidates,
    coupled_match,
    divergence,
    drafted_log_probabilities,
    gumbel,
    noise_that_drew,
    target_log_probabilities,
)
from heartmula_train.drafters.dumps import Dumps
from heartmula_train.drafters.language_model import DepthEnds, LanguageModelEnds
from heartmula_train.drafters.modules import FrameDrafter, MedusaHeads, MicroDepthDecoder
from heartmula_train.lm.config import TransformerConfig
from heartmula_train.lm.transformer import KvCache, Transformer
from heartmula_train.song.checkpoint import lm_folder, load_lm
from heartmula_train.stages import drafters
from heartmula_train.stages.config import read_drafter_config
from heartmula_train.stages.drafter_tasks import EstimateTask, FrameDrafterTask
from heartmula_train.stages.drafters import DRAFTER_STAGES
from heartmula_train.stages.loop import LAST

CONFIG = Path(__file__).with_name("minute_drafter.toml")
SIZES = TransformerConfig(2, 4, 2, 16, 24, 8)
WIDTH, CODES = 16, 9


def _random(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def _moved(module: nn.Module) -> nn.Module:
    """With weights that are nowhere as they began."""
    torch.manual_seed(3)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return module.eval()


@torch.no_grad()
def test_micro_depth_is_its_equations() -> None:
    depth = _moved(MicroDepthDecoder(WIDTH, CODES, SIZES))
    hidden, codes = _random(3, 2, WIDTH), torch.randint(CODES, (3, 8))
    logits = depth(hidden, codes)
    for row in range(3):
        rows = [depth.hidden.weight @ torch.cat((hidden[row, 0], hidden[row, 1]))]
        rows += [depth.embeddings.weight[(j - 1) * CODES + codes[row, j - 1]] for j in range(1, 8)]
        outputs = depth.decoder(torch.stack(rows)[None])[0]
        for j in range(1, 8):
            assert torch.allclose(outputs[j] @ depth.heads[j - 1], logits[row, j - 1], atol=1e-5)
    for known in range(1, 8):
        assert torch.allclose(depth.next_logits(hidden, codes[:, :known]), logits[:, known - 1], atol=1e-5)


@torch.no_grad()
def test_micro_depth_begins_with_the_geometry_of_codes() -> None:
    """As wide as the depth decoder: products of embeddings, h and heads are the model's; narrower: the best of them."""
    model, ends = load_lm(TINY / lm_folder()), DepthEnds.load(TINY / lm_folder())
    embedded = model.projection(model.audio_embeddings.weight[: 7 * 69])
    heads = model.decoder.norm.scale[:, None] * model.audio_head
    hidden = _random(3, 2, 64)
    guided = model.projection(hidden[:, 1] + GUIDANCE * (hidden[:, 0] - hidden[:, 1]))
    errors = []
    for width in (64, 32, 16):
        depth = MicroDepthDecoder(64, 69, replace(SIZES, embed_dim=width))
        depth.begin_as(ends, GUIDANCE)
        found = torch.einsum("ne,qev->qnv", depth.embeddings.weight, depth.heads)
        wanted = torch.einsum("ne,qev->qnv", embedded, heads)
        errors.append(float((found - wanted).norm() / wanted.norm()))
        if width == 64:
            assert torch.allclose(
                depth.hidden(hidden.flatten(1)) @ depth.heads[0], guided @ heads[0], atol=1e-4, rtol=1e-4
            )
    print(errors)
    assert errors[0] < 1e-5 < errors[1] < errors[2] < 1.0


@torch.no_grad()
def test_frame_drafter_is_its_equations() -> None:
    drafter = _moved(FrameDrafter(WIDTH, SIZES))
    hidden, embedded = _random(2, 5, 2, WIDTH), _random(2, 5, WIDTH)
    estimates = drafter(hidden, embedded)
    x = torch.cat((hidden[:, :, 0], hidden[:, :, 1], embedded), -1) @ drafter.input.weight.T
    change = drafter.decoder(x) @ drafter.output.weight.T
    assert torch.allclose(estimates[:, :, 0], hidden[:, :, 0] + change[..., :WIDTH], atol=1e-5)
    assert torch.allclose(estimates[:, :, 1], hidden[:, :, 1] + change[..., WIDTH:], atol=1e-5)


@torch.no_grad()
def test_medusa_heads_are_their_equations() -> None:
    heads = _moved(MedusaHeads(WIDTH, 2))
    hidden = _random(4, 2, WIDTH)
    for offset in range(2):
        for row in range(2):
            pushed = hidden[:, row] @ heads[offset].weight.T
            expected = hidden[:, row] + pushed * torch.sigmoid(pushed)
            assert torch.allclose(heads.estimate(hidden, offset)[:, row], expected, atol=1e-6)


@torch.no_grad()
def test_cut_cache_goes_on_as_the_short_one() -> None:
    stack, x = _moved(Transformer(SIZES)), _random(2, 7, 16)
    cache = KvCache(SIZES.num_layers)
    stack(x[:, :6], cache)
    for begin in (1, 4):
        assert torch.allclose(
            stack(x[:, 6:], cache.first(begin))[:, 0], stack(x[:, [*range(begin), 6]])[:, -1], atol=1e-5
        )
    assert cache.length == 6


def _pair(heat: float, topk: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """log p, its tokens (the last is none), log q at them, log q."""
    temperature = torch.tensor(heat)
    wanted, drafted = 2 * _random(CODES, seed=4), 2 * _random(CODES, seed=5)
    top = wanted.topk(5)
    tokens, logits = torch.cat((top.indices, torch.tensor([-1]))), torch.cat((top.values, torch.tensor([-torch.inf])))
    log_q = drafted_log_probabilities(drafted, temperature, topk)
    return target_log_probabilities(logits, temperature), tokens, at_tokens(log_q, tokens), log_q


@pytest.mark.parametrize("heat", [0.5, 3.0])
@pytest.mark.parametrize("topk", [4, CODES])
def test_rates_are_those_of_simulations(heat: float, topk: int) -> None:
    log_p, tokens, at, log_q = _pair(heat, topk)
    p = torch.zeros(CODES).index_add(0, tokens[:5], log_p[:5].exp())
    q, count = log_q.exp(), 200_000
    race = torch.empty(count, CODES).exponential_(generator=torch.Generator().manual_seed(6))
    same = ((p / race).argmax(1) == (q / race).argmax(1)).float().mean()
    assert abs(float(coupled_match(log_p, at)) - float(same)) < 0.005
    assert float(acceptance(log_p, at)) == pytest.approx(float(torch.minimum(p, q).sum()), abs=1e-6)
    if topk == CODES:
        kept = p > 0
        assert float(divergence(log_p, at)) == pytest.approx(float((p * (p / q).log())[kept].sum()), abs=1e-5)
    assert float(coupled_match(log_p, log_p)) == pytest.approx(1.0)


def test_noise_that_drew_a_code_is_that_of_all_draws_of_it() -> None:
    """It draws the code; over codes drawn from p it is free noise; its means are those of noise that did draw it."""
    log_p, tokens, _, _ = _pair(1.0, CODES)
    count, generator = 100_000, torch.Generator().manual_seed(7)
    rows = (log_p.expand(count, -1), tokens.expand(count, -1))
    codes = tokens[torch.multinomial(log_p.exp(), count, True, generator=generator)]
    noise = noise_that_drew(*rows, codes, gumbel((count, CODES), generator))
    scores = torch.full((count, CODES), -torch.inf)
    scores[:, tokens[:5]] = log_p[:5] + noise[:, tokens[:5]]
    assert torch.equal(scores.argmax(1), codes)
    free = gumbel((count, CODES), generator)
    assert torch.allclose(noise.mean(0), free.mean(0), atol=0.03)
    assert torch.allclose(noise.std(0), free.std(0), atol=0.03)
    scores[:, tokens[:5]] = log_p[:5] + free[:, tokens[:5]]
    first = int(tokens[0])
    assert torch.allclose(noise[codes == first].mean(0), free[scores.argmax(1) == first].mean(0), atol=0.05)


@torch.no_grad()
def test_candidates_are_the_best_of_all_frames() -> None:
    """As many as there are: then a beam is a search through all. One: each code is the best after those before."""
    codes, topk = 3, 2
    model = load_lm(TINY / lm_folder()).config
    model = replace(model, audio_vocab_size=codes, backbone=replace(model.backbone, embed_dim=WIDTH))
    ends = LanguageModelEnds(model, _random(8 * codes, WIDTH), _random(codes, WIDTH))
    depth = _moved(MicroDepthDecoder(WIDTH, codes, SIZES))
    hidden, heat = _random(1, 2, WIDTH), torch.tensor([0.7])
    noise = gumbel((1, 8, codes), torch.Generator().manual_seed(8))
    every = torch.tensor(list(product(range(codes), repeat=8)))
    logits = depth(hidden.expand(len(every), -1, -1), every)
    first = ends.first_logits(hidden, GUIDANCE)[:, None].expand(len(every), -1, -1)
    log_q = drafted_log_probabilities(torch.cat((first, logits), 1), heat.expand(len(every), 8), topk)
    sums = (log_q + noise).gather(-1, every[..., None])[..., 0].sum(-1)
    found, their = candidates(ends, depth, hidden, noise, heat, GUIDANCE, topk, topk**8)
    best = sums.topk(topk**8)
    assert torch.allclose(their[0], best.values, atol=1e-4)
    assert torch.equal(found[0, :5], every[best.indices[:5]])
    single, _ = candidates(ends, depth, hidden, noise, heat, GUIDANCE, topk, 1)
    given = int((every == single[0, 0]).all(1).nonzero())
    assert torch.equal((log_q + noise)[given].argmax(-1), single[0, 0])


@pytest.fixture(scope="module")
def dumps(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six songs, the last two of two temperatures, one shorter than a crop."""
    folder = tmp_path_factory.mktemp("dumps")
    model = load_lm(TINY / lm_folder())
    for number, (frames, heat) in enumerate(((20, 0.8), (6, 0.8), (24, 2.5), (20, 2.5), (21, 0.8), (17, 2.5))):
        write_dump(model, folder / f"song{number}.dump.safetensors", frames, number, heat)
    return folder


def _command(stage: str, dumps: Path, run: Path, config: Path = CONFIG) -> list[str]:
    return [stage, "--config", str(config), "--dump", str(dumps), "--model_path", str(TINY), "--out", str(run)]


@pytest.fixture(scope="module")
def run(dumps: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every stage by its command."""
    folder = tmp_path_factory.mktemp("run")
    for stage in DRAFTER_STAGES:
        assert main(_command(stage, dumps, folder)) == 0
    return folder


def test_dumps_are_read_as_they_were_written(dumps: Path) -> None:
    opened = Dumps.open(dumps, 2)
    assert [file.path.name[:5] for file in opened.held_out] == ["song4", "song5"]
    assert [file.path.name[:5] for file in Dumps.open(dumps, 3).held_out] == ["song1", "song4", "song5"]
    short = opened.training[1].read(0, 8)
    assert short.valid.tolist() == [[True] * 6 + [False] * 2]
    assert short.flat().codes.shape == (6, 8)
    whole, part = opened.training[0].read(0, 20), opened.training[0].read(7, 4)
    assert torch.equal(part.hidden, whole.hidden[:, 7:11])
    seen = [len(crops.flat().codes) for _, crops in opened.held_out_crops(2, 8, 8)]
    assert sum(seen) == 21 + 17
    overlapping = [int(crops.part(1, None).valid.sum()) for _, crops in opened.held_out_crops(2, 9, 8)]
    assert sum(overlapping) == 20 + 16


def test_songs_without_guidance_have_one_row_for_both(tmp_path: Path) -> None:
    model = load_lm(TINY / lm_folder())
    for number in range(2):
        write_dump(model, tmp_path / f"{number}.dump.safetensors", 4, number, guided=False)
    hidden = Dumps.open(tmp_path, 1).first.read(0, 4).hidden
    assert hidden.shape[2] == 2
    assert torch.equal(hidden[:, :, 0], hidden[:, :, 1])


def test_stages_report_rates(run: Path) -> None:
    def figures(stage: str) -> dict[str, float]:
        return json.loads((run / stage / "figures.json").read_text(encoding="utf-8"))

    depth, frame = figures("micro_depth"), figures("frame_drafter")
    for heat in ("t0.8", "t2.5"):
        of_codes = [depth[f"coupled_{heat}_codebook{j}"] for j in range(1, 8)]
        assert depth[f"coupled_{heat}"] == pytest.approx(sum(of_codes) / 7)
        assert 0 < depth[f"coupled_{heat}"] < depth[f"acceptance_{heat}"] < 1
        for name in ("coupled1", "frame1", "coupled2", "frame2", "best1", "best4"):
            assert 0 <= frame[f"{name}_{heat}"] <= 1
        assert f"coupled2_{heat}_codebook0" in frame
    for stage in ("medusa", "multi_token"):
        assert "frame2_t2.5" in figures(stage)


def _rates_of_the_target(task: EstimateTask, model: nn.Module) -> None:
    """The task's drafts become the language model's own."""
    task._depth = lambda hidden, codes: _guided(model, hidden, codes)


def _guided(model: nn.Module, hidden: Tensor, codes: Tensor) -> Tensor:
    conditional, unconditional = (model.depth_logits(hidden[:, row], codes) for row in (0, 1))
    return unconditional + GUIDANCE * (conditional - unconditional)


@torch.no_grad()
def test_language_model_itself_always_matches(dumps: Path) -> None:
    """True h, the model's own head and depth decoder: every rate is 1, every loss 0 but for what top-k cuts off."""
    model, opened = load_lm(TINY / lm_folder()), Dumps.open(dumps, 2)
    ends = LanguageModelEnds.load(TINY / lm_folder())
    config = read_drafter_config(CONFIG)
    depth = MicroDepthDecoder(64, 69, config.depth)
    task = FrameDrafterTask(config.frame_drafter, config.frame, ends, depth, opened, 1)
    _rates_of_the_target(task, model)
    frames = opened.first.read(0, 20).flat()
    accepted, matched = task._rates(task._frame_logits(frames.hidden, frames), frames, 0)
    assert torch.allclose(accepted, torch.ones(20, 8), atol=1e-4)
    assert torch.allclose(matched, torch.ones(20, 8), atol=1e-4)
    assert torch.equal(ends.embed_frames(frames.codes), model.embed_frames(frames.codes))


@torch.no_grad()
def test_further_frames_are_drafted_as_a_program_would(dumps: Path) -> None:
    opened, config = Dumps.open(dumps, 2), read_drafter_config(CONFIG)
    settings = replace(config.frame_drafter, ahead=3)
    ends = LanguageModelEnds.load(TINY / lm_folder())
    task = FrameDrafterTask(settings, config.frame, ends, MicroDepthDecoder(64, 69, config.depth), opened, 1)
    drafter = _moved(task.module)
    frames = opened.first.read(3, 13)
    estimates, cache = task._drafted(frames)
    hidden, embedded = frames.hidden[:, :5], ends.embed_frames(frames.codes)
    for own, wanted in task._further(frames, estimates, cache, 5):
        hidden = torch.cat((hidden, drafter(hidden, embedded[:, : hidden.shape[1]])[:, -1:]), 1)
        assert torch.allclose(own, drafter(hidden, embedded[:, : hidden.shape[1]])[:, -1:], atol=1e-4)
        assert torch.equal(wanted.codes[0, 0], frames.codes[0, hidden.shape[1]])


@pytest.mark.parametrize("stage", DRAFTER_STAGES)
def test_cut_off_stage_goes_on_as_if_never_cut(
    stage: str, dumps: Path, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the steps, with a checkpoint at each."""
    if stage != "micro_depth":
        shutil.copytree(run / "micro_depth", tmp_path / "micro_depth")
    often = tmp_path / "often.toml"
    often.write_text(CONFIG.read_text(encoding="utf-8").replace("steps = 6", "steps = 6\nsave_every_s = 0.0"))
    make = drafters._TASKS[stage]

    def until_cut(*arguments: object) -> object:
        task = make(*arguments)
        losses = task.losses

        def cut(step: int, progress: float) -> dict[str, Tensor]:
            if step == 3:
                raise KeyboardInterrupt
            return losses(step, progress)

        task.losses = cut
        return task

    with monkeypatch.context() as patch:
        patch.setitem(drafters._TASKS, stage, until_cut)
        with pytest.raises(KeyboardInterrupt):
            main(_command(stage, dumps, tmp_path, often))
    assert (tmp_path / stage / LAST).exists()
    assert main(_command(stage, dumps, tmp_path, often)) == 0
    whole, cut = (torch.load(folder / stage / "final.pt", weights_only=True) for folder in (run, tmp_path))
    assert whole.keys() == cut.keys()
    for name, tensor in whole.items():
        assert torch.equal(tensor, cut[name]), name


def _layer(part: str, width: int, inner: int) -> dict[str, list[int]]:
    begin = f"{part}.decoder.layers.0"
    return {
        f"{begin}.attn.q_proj.weight": [width, width],
        f"{begin}.attn.k_proj.weight": [width // 2, width],
        f"{begin}.attn.v_proj.weight": [width // 2, width],
        f"{begin}.attn.output_proj.weight": [width, width],
        f"{begin}.mlp.w1.weight": [inner, width],
        f"{begin}.mlp.w2.weight": [width, inner],
        f"{begin}.mlp.w3.weight": [inner, width],
        f"{begin}.sa_norm.scale": [width],
        f"{begin}.mlp_norm.scale": [width],
        f"{part}.decoder.norm.scale": [width],
    }


def test_file_is_that_of_the_contract(run: Path, tmp_path: Path) -> None:
    path = tmp_path / "drafter.safetensors"
    assert main(["export_drafter", "--config", str(CONFIG), "--out", str(run), "--to", str(path)]) == 0
    with safe_open(path, "pt") as file:
        told = json.loads(file.metadata()["heartmula_drafter"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    sizes = {"num_layers": 1, "num_heads": 2, "num_kv_heads": 1, "embed_dim": 32, "intermediate_dim": 48}
    assert told == {
        "version": 1,
        "embed_dim": 64,
        "audio_vocab_size": 69,
        "cfg_scale": 1.5,
        "depth": {**sizes, "max_seq_len": 8},
        "frame": {**sizes, "max_seq_len": 12},
        "medusa": {"heads": 2},
    }
    assert {name: list(tensor.shape) for name, tensor in tensors.items()} == {
        "depth.hidden.weight": [32, 128],
        "depth.embeddings.weight": [7 * 69, 32],
        "depth.heads": [7, 32, 69],
        **_layer("depth", 32, 48),
        "frame.input.weight": [32, 192],
        "frame.output.weight": [128, 32],
        **_layer("frame", 32, 48),
        "medusa.0.weight": [64, 64],
        "medusa.1.weight": [64, 64],
    }
    assert all(tensor.dtype == torch.bfloat16 for tensor in tensors.values())
    trained = torch.load(run / "frame_drafter" / "final.pt", weights_only=True)
    assert torch.equal(tensors["frame.output.weight"], trained["output.weight"].bfloat16())


def test_only_finished_parts_are_written(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    command = ["export_drafter", "--config", str(CONFIG), "--out", str(tmp_path), "--dtype", "f32"]
    assert main(command) == 2
    assert "no drafter was begun" in capsys.readouterr().err
    shutil.copy(run / "drafter.json", tmp_path)
    shutil.copytree(run / "micro_depth", tmp_path / "micro_depth")
    shutil.copytree(run / "multi_token", tmp_path / "multi_token")
    assert main(command) == 0
    with safe_open(tmp_path / "drafter.safetensors", "pt") as file:
        assert "frame" not in json.loads(file.metadata()["heartmula_drafter"])
        trained = torch.load(run / "multi_token" / "final.pt", weights_only=True)
        assert torch.equal(file.get_tensor("medusa.1.weight"), trained["1.weight"])
        assert file.get_tensor("depth.heads").dtype == torch.float32


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ({"language_model": "another"}, "its language_model is another"),
        ({"cfg_scale": 2.0}, "its cfg_scale is 2.0"),
        ({"topk": TOPK + 1}, "shapes do not belong together"),
        ({"version": 2}, "of version 2"),
        ({"temperature": 0.0}, "nothing to draw"),
    ],
)
def test_dumps_that_do_not_belong(
    dumps: Path, tmp_path: Path, capsys: pytest.CaptureFixture, told: dict[str, object], message: str
) -> None:
    shutil.copytree(dumps, tmp_path / "dumps")
    write_dump(load_lm(TINY / lm_folder()), tmp_path / "dumps" / "strange.dump.safetensors", 3, 9, **told)
    assert main(_command("micro_depth", tmp_path / "dumps", tmp_path)) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "strange.dump.safetensors" in error


def test_other_errors_are_told(dumps: Path, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    def error(*command: object) -> str:
        assert main([str(word) for word in command]) == 2
        return capsys.readouterr().err

    assert "0 files" in error(*_command("micro_depth", tmp_path, tmp_path))
    assert "micro_depth is not finished" in error(*_command("frame_drafter", dumps, tmp_path))
    assert "--dump" in error("medusa", "--config", CONFIG, "--out", tmp_path)
    shutil.copytree(TINY / lm_folder(), tmp_path / lm_folder())
    model = load_lm(TINY / lm_folder())
    for number in range(3):
        with torch.no_grad():
            model.codebook0_head.weight.copy_(3 * torch.randn_like(model.codebook0_head.weight))
        write_dump(model, tmp_path / f"{number}.dump.safetensors", 3, number)
    assert "are not this language model's" in error(*_command("micro_depth", tmp_path, tmp_path))
    broken = tmp_path / "broken.toml"
    broken.write_text(CONFIG.read_text(encoding="utf-8").replace("crop_frames = 12", "crop_frames = 13"))
    shutil.copytree(run / "micro_depth", tmp_path / "micro_depth")
    assert "at most [frame] max_seq_len" in error(*_command("frame_drafter", dumps, tmp_path, broken))
    broken.write_text(CONFIG.read_text(encoding="utf-8").replace("[medusa]", "[medusae]"))
    assert "no drafter has medusae" in error(*_command("medusa", dumps, tmp_path, broken))
