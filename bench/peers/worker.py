"""One runtime on one piece: worker.py RUNTIME PIECE DTYPE FOLDER OUT, speaking as peers_ours does.

Prints "loaded", then "ready" once the output is written, or "failed" and why; then, for each line that it reads, the
milliseconds of one more run.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import numpy as np
import torch

from pieces import make
from runtimes import RUNTIMES, Task

DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16}


def main() -> None:
    """Serves until its input ends."""
    reports = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # runtimes print
    name, piece_name, dtype, folder, out = sys.argv[1:]
    threads = len(os.sched_getaffinity(0))
    torch.set_num_threads(threads)
    piece = make(piece_name)
    task = Task(piece.module, piece.inputs, DTYPES[dtype], threads, Path(folder))
    try:
        run = RUNTIMES[name](task)
        reports.write("loaded\n")
        result = torch.as_tensor(run()).float()
    except Exception as error:
        cause = error
        while cause.__cause__:
            cause = cause.__cause__
        lines = str(cause).strip().splitlines() or [type(cause).__name__]
        reports.write(f"failed {lines[0]}\n")
        raise
    np.save(out, piece.rows(result).numpy())
    del task, piece  # the run has what it needs
    reports.write("ready\n")
    for _ in sys.stdin:
        begin = time.perf_counter()
        run()
        reports.write(f"{1e3 * (time.perf_counter() - begin)}\n")


if __name__ == "__main__":
    main()
