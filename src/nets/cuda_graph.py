"""Replay the kernels of a training step from CUDA graphs, without Python between them."""

from collections.abc import Callable, Hashable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves


def can_record() -> bool:
    """Return whether a pass may be recorded now.

    Gradients must be on and one process must train. Anomaly detection must be off, because it reads
    each gradient back to the CPU.
    """
    one_process = not torch.distributed.is_initialized()
    return torch.is_grad_enabled() and one_process and not torch.is_anomaly_enabled()


class Replay:
    """Call a function of a network through two CUDA graphs, one for each pass.

    The first call records the kernels of the forward and of the backward pass; later calls launch
    them all at once. This helps when a step has many small kernels, because Python needs more time
    to launch one than the GPU needs to run it. Each function, each set of trained parameters and
    each shape of the inputs has its own recording.

    A call overwrites the results of the one before, and a backward pass the gradients of the one
    before: run the backward pass before the next call, and do not accumulate gradients.
    """

    def __init__(self) -> None:
        self._recorded: dict[Hashable, Callable[..., Any]] = {}
        self._parameters: dict[nn.Module, list[nn.Parameter]] = {}  # listing them takes long

    def __getstate__(self) -> dict[str, Any]:
        """Leave the recordings out of copies: they use the memory of this network's weights."""
        return self.__dict__ | {"_recorded": {}, "_parameters": {}}

    def __call__(self, function: Callable[..., Any], net: nn.Module, *inputs: Tensor) -> Any:
        """Return function(*inputs).

        Args:
            function: takes tensors on the GPU and returns one, or a dict or tuple of them. It must
                not read a value back to the CPU, or change anything in Python. Numbers that it
                reads in Python keep the value of the first call. Give the same function each time,
                not a new lambda: another one is recorded again.
            net: the module that it calls. It gets gradients for all parameters that are trained.
            inputs: a gradient flows into those that require one.
        """
        if net not in self._parameters:
            self._parameters[net] = list(net.parameters())
        trained = tuple(p.requires_grad for p in self._parameters[net])
        key = (function, trained, *((x.shape, x.dtype, x.requires_grad) for x in inputs))
        if key not in self._recorded:
            self._recorded[key] = _record(function, net, inputs)
        return self._recorded[key](*inputs)


class Recording:
    """Call a function without gradients through a CUDA graph, which is recorded here.

    A call overwrites the results of the one before.

    Args:
        function: takes a list of tensors on the GPU and returns one. It must not change them, read
            a value back to the CPU or draw random numbers.
        inputs: an example; later ones have the same shapes and dtypes.
    """

    def __init__(
        self, function: Callable[[list[Tensor]], list[Tensor]], inputs: list[Tensor]
    ) -> None:
        self.inputs = [x.clone() for x in inputs]
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.no_grad(), torch.cuda.stream(stream):
            function(self.inputs)  # libraries prepare themselves, which cannot be recorded
        torch.cuda.current_stream().wait_stream(stream)
        self.graph = torch.cuda.CUDAGraph()
        with torch.no_grad(), torch.cuda.graph(self.graph):
            self.outputs = function(self.inputs)

    def __call__(self, inputs: list[Tensor]) -> list[Tensor]:
        """Return function(inputs)."""
        torch._foreach_copy_(self.inputs, inputs)
        self.graph.replay()
        return self.outputs


def _record(
    function: Callable[..., Any], net: nn.Module, inputs: tuple[Tensor, ...]
) -> Callable[..., Any]:
    """Return `function` as it replays its kernels.

    Recording calls the function a few times. After that, buffers (statistics of BatchNorm) and
    random numbers are as they were, so a resumed run, which records again, goes on as before.
    """
    # the recording uses another stream than the training, which is fine here
    torch.autograd.graph.set_warn_on_accumulate_grad_stream_mismatch(False)
    examples = tuple(x.detach().clone().requires_grad_(x.requires_grad) for x in inputs)
    buffers = [(buffer, buffer.clone()) for buffer in net.buffers()]
    cast, dtype = torch.is_autocast_enabled("cuda"), torch.get_autocast_dtype("cuda")
    with (
        torch.random.fork_rng([inputs[0].device]),
        # autocast's cache would keep casts of the weights that a replay cannot renew
        torch.autocast("cuda", dtype, enabled=cast, cache_enabled=False),
    ):
        call: Callable[..., Any] = torch.cuda.make_graphed_callables(
            _Call(net, function), examples, allow_unused_input=True
        )
        for parameter in _sharing_gradients(call, net, examples):
            if not parameter._backward_hooks:  # another shape of the inputs has added it
                parameter.register_hook(torch.clone)
    for buffer, value in buffers:
        buffer.copy_(value)
    return call


def _sharing_gradients(
    call: Callable[..., Any], net: nn.Module, inputs: tuple[Tensor, ...]
) -> list[nn.Parameter]:
    """Return the parameters of `net` whose gradient has the same memory as another one's.

    If two parameters are only ever added, as the biases of an LSTM are, autograd computes one
    gradient for both. Usually it gives each a copy, but not in a recording, where clipping both in
    place would clip twice.
    """
    parameters = [p for p in net.parameters() if p.requires_grad]
    if len(parameters) < 2:
        return []
    outputs = [out for out in tree_leaves(call(*inputs)) if out.requires_grad]
    ones = [torch.ones_like(out) for out in outputs]
    gradients = torch.autograd.grad(outputs, parameters, ones, allow_unused=True)
    seen: set[int] = set()
    sharing = []
    for parameter, gradient in zip(parameters, gradients, strict=True):
        if gradient is not None:
            if gradient.data_ptr() in seen:
                sharing.append(parameter)
            seen.add(gradient.data_ptr())
    return sharing


class _Call(nn.Module):
    """A function as a module, which tells torch the parameters that it uses."""

    def __init__(self, net: nn.Module, function: Callable[..., Any]) -> None:
        super().__init__()
        self.net, self.function = net, function

    def forward(self, *inputs: Tensor) -> Any:
        return self.function(*inputs)
