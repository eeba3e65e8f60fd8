"""Other people's runtimes: each makes of a module a function that computes it once and returns its output.

They run in processes of their own (worker.py), so that none holds another's threads or takes it down.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

OPSET = 18  # what MNN reads; 23, with operators for attention and norm, made ONNX Runtime no faster


@dataclass
class Task:
    """A module and its inputs in float32, what to compute in, and where models may be left and found again."""

    module: nn.Module
    inputs: dict[str, Tensor]
    dtype: torch.dtype
    threads: int
    folder: Path

    def cast(self) -> None:
        """Weights, inputs and so all that is computed, to the dtype."""
        self.module.to(self.dtype)
        self.inputs = {name: value.to(self.dtype) for name, value in self.inputs.items()}

    def model(self, ending: str) -> Path:
        """A file of this dtype."""
        return self.folder / f"{str(self.dtype).removeprefix('torch.')}.{ending}"


Run = Callable[[], np.ndarray | Tensor]


def pytorch(task: Task) -> Run:
    """The module itself."""
    task.cast()

    def run() -> Tensor:
        with torch.inference_mode():
            return task.module(**task.inputs)

    return run


def _onnx(task: Task) -> Path:
    task.cast()
    path = task.model("onnx")
    if not path.exists():
        torch.onnx.export(
            task.module,
            kwargs=task.inputs,
            f=path.with_suffix(".part"),
            input_names=list(task.inputs),
            output_names=["out"],
            opset_version=OPSET,
            dynamo=True,
            external_data=False,
            verbose=False,
        )
        path.with_suffix(".part").rename(path)
    return path


def onnx_runtime(task: Task) -> Run:
    """ONNX Runtime's CPU provider, with all its optimisations."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = task.threads
    options.log_severity_level = 3
    path = _onnx(task)
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    feeds = {name: value.float().numpy() for name, value in task.inputs.items()}
    return lambda: session.run(None, feeds)[0]


def mnn(task: Task) -> Run:
    """MNN, from the same ONNX file; it has no bf16 weights, but a precision of that name."""
    from MNN import expr
    from MNN import nn as mnn_nn

    precision = "Low_BF16" if task.dtype == torch.bfloat16 else "high"
    task.dtype = torch.float32
    source = _onnx(task)
    model = source.with_suffix(".mnn")
    if not model.exists():
        command = [f"{sys.prefix}/bin/mnnconvert", "-f", "ONNX", "--bizCode", "peers"]
        subprocess.run([*command, "--modelFile", source, "--MNNModel", model], check=True)
    settings = {"backend": "CPU", "numThread": task.threads, "precision": precision}
    runtime = mnn_nn.create_runtime_manager((settings,))
    net = mnn_nn.load_module_from_file(str(model), list(task.inputs), ["out"], runtime_manager=runtime)
    values = [expr.const(value.numpy(), list(value.shape), expr.NCHW) for value in task.inputs.values()]
    return lambda: net.forward(values)[0].read()


def executorch(task: Task) -> Run:
    """ExecuTorch: XNNPACK for what its partitioner takes, its own kernels for the rest."""
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import to_edge_transform_and_lower
    from executorch.runtime import Runtime

    task.cast()
    values = tuple(task.inputs.values())
    path = task.model("pte")
    if not path.exists():
        exported = torch.export.export(task.module, values)
        program = to_edge_transform_and_lower(exported, partitioner=[XnnpackPartitioner()]).to_executorch()
        path.write_bytes(program.buffer)
    program = Runtime.get().load_program(path)
    method = program.load_method("forward")

    def run() -> Tensor:
        return method.execute(values)[0]

    run.program = program  # the method needs it
    return run


RUNTIMES: dict[str, Callable[[Task], Run]] = {
    "ONNX Runtime": onnx_runtime,
    "MNN": mnn,
    "ExecuTorch": executorch,
    "PyTorch": pytorch,
}
