"""Language model, sampler, prompt and whole runs against the recorded reference."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from comparison import distance
from safetensors.numpy import load_file
from tokenizers import Tokenizer
from torch import Tensor, nn

from heartmula_train.lm.heartmula import HeartMuLa, LmSession
from heartmula_train.sampling.sampler import SamplingSettings, guide, sample
from heartmula_train.song.checkpoint import Checkpoint, lm_folder, load_checkpoint, load_lm, read_json
from heartmula_train.song.frame_loop import generate_frames
from heartmula_train.text.prompt import GenConfig, make_prompt

LM_TOLERANCE = 1e-5


class _Recorder:
    """What every backbone layer and the depth decoder put out last, by the golden names."""

    def __init__(self, model: HeartMuLa) -> None:
        self.values: dict[str, Tensor] = {}
        for index, block in enumerate(model.backbone.layers):
            self._watch(block, f"backbone.layer{index}")
        self._watch(model.backbone, "backbone.out")
        self._watch(model.decoder, "decoder.out")

    def _watch(self, module: nn.Module, name: str) -> None:
        def keep(_module: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> None:
            self.values[name] = output[:, -1]

        module.register_forward_hook(keep)


def _check(recorded: dict[str, np.ndarray], name: str, actual: Tensor, worst: dict[str, float]) -> None:
    if name not in recorded:
        return
    found = distance(actual.numpy(), recorded[name]).rms
    worst[name] = found
    assert found <= LM_TOLERANCE, (name, found)


@torch.no_grad()
@pytest.mark.parametrize("guidance", [1.5, 1.0])
def test_forced_frames_agree_layer_by_layer(golden: Path, guidance: float) -> None:
    recorded = load_file(golden / "golden_lm.safetensors")
    model = load_lm(golden / lm_folder())
    recorder = _Recorder(model)
    session = LmSession(model, guided=guidance > 1)
    session.prefill(torch.from_numpy(recorded["prompt_text_ids"]), int(recorded["muq_index"][0]))
    worst: dict[str, float] = {}
    for frame, codes in enumerate(torch.from_numpy(recorded["forced_codes"])):
        tag = f"f32.cfg{guidance}.frame{frame}."
        if frame > 0:
            session.feed(torch.from_numpy(recorded["forced_codes"])[frame - 1])
        for name, value in recorder.values.items():
            if name.startswith("backbone"):
                _check(recorded, tag + name, value, worst)
        _check(recorded, tag + "logits0", guide(session.first_logits(), guidance)[None], worst)
        for q in range(1, 8):
            logits = session.next_logits(q, int(codes[q - 1]))
            _check(recorded, f"{tag}decoder.step{q}", recorder.values["decoder.out"], worst)
            _check(recorded, f"{tag}logits{q}", guide(logits, guidance)[None], worst)
    assert len(worst) == sum(name.startswith(f"f32.cfg{guidance}.") for name in recorded)
    print(f"{golden.name} guidance {guidance}: {len(worst)} tensors, worst {max(worst.values()):.2e}")


@torch.no_grad()
def test_training_pass_gives_the_logits_of_the_session(golden: Path) -> None:
    """All frames at once under the causal mask, as training does it."""
    recorded = load_file(golden / "golden_lm.safetensors")
    model = load_lm(golden / lm_folder())
    prompt = model.embed_prompt(torch.from_numpy(recorded["prompt_text_ids"]), int(recorded["muq_index"][0]))
    codes = torch.from_numpy(recorded["forced_codes"])
    hidden = model.backbone(torch.cat((prompt, model.embed_frames(codes[:-1])))[None])[0, len(prompt) - 1 :]
    depth = model.depth_logits(hidden, codes)
    for frame in range(len(codes)):
        logits = torch.cat((model.first_logits(hidden[frame])[None], depth[frame]))
        for q in range(8):
            expected = recorded[f"f32.cfg1.0.frame{frame}.logits{q}"][0]
            assert distance(logits[q].numpy(), expected).rms <= LM_TOLERANCE


@torch.no_grad()
def test_end_of_the_context(golden: Path) -> None:
    recorded = load_file(golden / "golden_lm.safetensors")
    if "long.prompt_text_ids" not in recorded:
        pytest.skip("this case records no long prompt")
    model = load_lm(golden / lm_folder())
    recorder = _Recorder(model)
    session = LmSession(model, guided=False)
    session.prefill(torch.from_numpy(recorded["long.prompt_text_ids"]), int(recorded["muq_index"][0]))
    worst: dict[str, float] = {}
    for name, value in recorder.values.items():
        _check(recorded, "long.frame0." + name, value, worst)
    _check(recorded, "long.frame0.logits0", session.first_logits(), worst)
    assert len(worst) == sum(name.startswith("long.frame0.") for name in recorded)


def test_sampler_takes_the_recorded_codes(golden: Path) -> None:
    recorded = {name: torch.from_numpy(value) for name, value in load_file(golden / "golden_lm.safetensors").items()}
    for case in range(6):
        topk, temperature = recorded[f"sampler{case}.topk_temperature"].tolist()
        settings = SamplingSettings(int(topk), temperature, 1.0)
        for row in range(6):
            noise = recorded[f"sampler{case}.exponential"][row]
            token = sample(recorded[f"sampler{case}.logits"][row], settings, noise)
            assert token == int(recorded[f"sampler{case}.token"][row, 0])


def test_whole_runs_give_the_recorded_codes(golden: Path) -> None:
    recorded = load_file(golden / "golden_pipeline.safetensors")
    checkpoint: Checkpoint = load_checkpoint(golden)
    runs = sorted({name.split(".")[0] for name in recorded})
    for run in runs:
        inputs = json.loads(bytes(recorded[f"{run}.inputs"]))
        length, topk, temperature, guidance = recorded[f"{run}.settings"].tolist()
        draws = torch.from_numpy(recorded[f"{run}.exponential"])
        prompt = make_prompt(checkpoint.tokenizer, checkpoint.gen_config, inputs["tags"], inputs["lyrics"])
        settings = SamplingSettings(int(topk), temperature, guidance)
        frames = generate_frames(
            checkpoint.lm, checkpoint.gen_config, prompt, int(length), settings, lambda n, d=draws: d[n]
        )
        assert frames.T.tolist() == recorded[f"{run}.frames"].tolist(), run


def test_prompt_ids(golden: Path) -> None:
    tokenizer = Tokenizer.from_file(str(golden / "tokenizer.json"))
    config = GenConfig(**read_json(golden / "gen_config.json"))
    recorded = json.loads((golden / "golden_text.json").read_text(encoding="utf-8"))
    for case in recorded["preprocess"]:
        prompt = make_prompt(tokenizer, config, case["tags"], case["lyrics"])
        assert prompt.text_ids == case["text_ids"]
        assert prompt.reference_index == case["muq_index"]
