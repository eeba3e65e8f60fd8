"""Golden cases: the smallest lies in the repository, HEARTMULA_GOLDEN=DIR[:DIR...] names more."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

REPOSITORY = Path(__file__).resolve().parents[2]
TINY = REPOSITORY / "tests" / "golden" / "data" / "tiny1"


def golden_folders() -> list[Path]:
    named = [Path(name) for name in os.environ.get("HEARTMULA_GOLDEN", "").split(":") if name]
    return [TINY, *(folder for folder in named if folder.name != TINY.name)]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "golden" in metafunc.fixturenames:
        folders = golden_folders()
        metafunc.parametrize("golden", folders, ids=[folder.name for folder in folders])


@pytest.fixture(autouse=True)
def _few_threads() -> None:
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "2")))
