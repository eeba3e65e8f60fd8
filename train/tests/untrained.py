"""A run whose codec makes noise."""

from __future__ import annotations

from pathlib import Path

import torch

from heartmula_train.codec.heartcodec import FlowMatching
from heartmula_train.music.render import render
from heartmula_train.stages.autoencoder import WaveAutoencoder
from heartmula_train.stages.config import Config
from heartmula_train.stages.rvq import FeatureQuantizer
from heartmula_train.stages.songs import held_out_plan


def untrained_run(config: Config, run: Path) -> None:
    """Stages autoencoder, rvq and flow as they begin, finished in the folder `run`, which there is."""
    torch.manual_seed(1)
    parts = {
        "autoencoder": WaveAutoencoder(config.codec, config.autoencoder.encoder_width),
        "rvq": FeatureQuantizer(config.codec),
        "flow": FlowMatching(config.codec),
    }
    quantizer = parts["rvq"]
    features = quantizer.standardised(render(held_out_plan(config, 0)))
    quantizer.start(features, torch.Generator().manual_seed(1))
    parts["flow"].vq_embed.load_state_dict(quantizer.vq.state_dict())
    for name, module in parts.items():
        (run / name).mkdir()
        torch.save(module.state_dict(), run / name / "final.pt")
