"""OpenVINO as the engine, on a CPU; an extra: `pip install 'rayscan[openvino]'`.

The network is traced and handed over in memory by OpenVINO's PyTorch front end: its `convert_model` would do
the same and report usage over the network. Every thread is a stream of its own, which computes whole chunks:
small ones, whose activations stay within a core's cache. So neither the number of threads nor the batch
changes a bit.
"""

from __future__ import annotations

import threading
import warnings
from collections import deque
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from rayscan.config.preprocessing import Preprocessing
from rayscan.engine.inference.choice import Precision
from rayscan.engine.inference.frozen import FrozenNet
from rayscan.errors import FleetError

CHUNK = 4
STALL_SECONDS = 600
"""A chunk of the largest network at a large size takes less than a minute on one slow core."""


class OpenVinoNet(FrozenNet):
    """OpenVINO on uint8 pixels, normalisation included."""

    def __init__(
        self, net: nn.Module, preprocessing: Preprocessing, *, precision: Precision, threads: int
    ) -> None:
        """Convert and compile a network: some seconds.

        Args:
            net: [B, 3, S, S] -> [B, D], on the CPU.
            preprocessing: What its pixels are.
            precision: Of matrix products.
            threads: That compute, each with a chunk of its own.
        """
        import openvino  # an extra

        self.engine, self.precision = "openvino", precision
        self.version = f"openvino {openvino.__version__.partition('-')[0]}"
        self.chunk = CHUNK
        model = _with_bytes(converted(net.eval(), CHUNK, preprocessing.size_px), preprocessing)
        settings = {
            "INFERENCE_PRECISION_HINT": {"bf16": "bf16", "fp32": "f32"}[precision],
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": threads,
            # Several tasks on a machine would all be pinned to the first cores.
            "ENABLE_CPU_PINNING": False,
        }
        self._openvino = openvino
        self._compiled = openvino.Core().compile_model(model, "CPU", settings)
        # Requests in turn that write where rows lie, and no queue of OpenVINO's: its threads call back into
        # Python, and one that waits for Python's lock can be waited for by who holds it.
        self._lock = threading.Lock()
        self._requests = [self._compiled.create_infer_request() for _ in range(2 * threads)]

    def _forward(self, pixels: Tensor) -> Tensor:
        images = pixels.permute(0, 2, 3, 1).contiguous().numpy()
        rows = np.empty((len(images), *tuple(self._compiled.output(0).shape)[1:]), np.float32)
        started: deque[Any] = deque()
        with self._lock:
            self._held = images, rows  # a request that is left under way by an exception goes on writing
            for first in range(0, len(images), CHUNK):
                is_full = len(started) == len(self._requests)
                request = _done(started.popleft()) if is_full else self._requests[len(started)]
                request.set_input_tensor(self._shared(images[first : first + CHUNK]))
                request.set_output_tensor(self._shared(rows[first : first + CHUNK]))
                request.start_async()
                started.append(request)
            for request in started:
                _done(request)
        return torch.from_numpy(rows)

    def _shared(self, array: Any) -> Any:
        return self._openvino.Tensor(array, shared_memory=True)


def _done(request: Any) -> Any:
    """A request once its chunk is computed; what it raised is raised here."""
    if not request.wait_for(1000 * STALL_SECONDS):
        raise FleetError(
            "OpenVINO does not come back",
            expected=f"the features of {CHUNK} images within {STALL_SECONDS} s",
            got="none",
            where="one of its threads",
            fix="pass --embed.engine torch; what is computed so far is kept",
        )
    return request


def converted(net: nn.Module, count: int, size: int) -> Any:
    """A network as OpenVINO's graph.

    Args:
        net: float32 [B, 3, S, S] -> [B, D], in eval mode, on the CPU.
        count: Images per forward (B), fixed in the graph.
        size: Side of the square, px (S).

    Returns:
        An openvino.Model.
    """
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    example = torch.zeros((count, 3, size, size))
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # torch calls tracing deprecated, and names every Python condition
        decoder = TorchScriptPythonDecoder(net, example_input=example)
        front_end = FrontEndManager().load_by_framework("pytorch")
        model = front_end.convert(front_end.load(decoder))
    model.reshape([count, 3, size, size])
    return model


def _with_bytes(model: Any, preprocessing: Preprocessing) -> Any:
    """The graph with uint8 [CHUNK, S, S, 3] as its input."""
    import openvino
    from openvino.preprocess import PrePostProcessor

    steps = PrePostProcessor(model)
    steps.input().tensor().set_element_type(openvino.Type.u8).set_layout(openvino.Layout("NHWC"))
    steps.input().model().set_layout(openvino.Layout("NCHW"))
    steps.input().preprocess().convert_element_type(openvino.Type.f32).mean(
        [255 * value for value in preprocessing.mean]
    ).scale([255 * value for value in preprocessing.std])
    steps.output().tensor().set_element_type(openvino.Type.f32)
    return steps.build()
