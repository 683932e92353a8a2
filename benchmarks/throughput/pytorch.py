"""PyTorch: a loop over the trials, eager in one process or two, or compiled; a torch.func ensemble.

All run on the GPU where PyTorch finds one.
"""

import contextlib
import copy
from collections.abc import Callable, Sequence
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any

import torch  # pyright: ignore[reportMissingImports]

from benchmarks.throughput.work import B1, B2, CLASSES, EPSILON, Work

PROCESSES = 2
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def one_thread(work: Work) -> Callable[[], None]:
    """Run the loop, with one thread; some of the trials."""
    return lambda: train(work, work.some_trials, threads=1)


def two_threads(work: Work) -> Callable[[], None]:
    """Run the loop, with two threads; some of the trials."""
    return lambda: train(work, work.some_trials, threads=2)


def compiled(work: Work) -> Callable[[], None]:
    """Run the loop with one network for all trials, compiled by torch.compile into CUDA graphs."""
    model = _model(work)
    network = torch.compile(model, mode="reduce-overhead")

    def anew(_: Work) -> Any:
        model.load_state_dict(_model(work).state_dict())
        return network

    return lambda: train(work, work.some_trials, threads=1, make=anew)


def two_processes(work: Work) -> Callable[[], None]:
    """Two processes with a loop of one thread each, which live on; some of the trials."""
    shares = [work.some_trials[number::PROCESSES] for number in range(PROCESSES)]
    ends = [_process(work, share) for share in shares]

    def run() -> None:
        for end in ends:
            end.send(None)
        for end in ends:
            end.recv()

    return run


def _process(work: Work, share: Sequence[tuple[float, int]]) -> Connection:
    """Start a process that trains at each message; return the pipe, with which it ends."""
    context = get_context("spawn")
    local, remote = context.Pipe()
    context.Process(target=_serve, args=(remote, work, share), daemon=True).start()
    remote.close()
    return local


def _serve(end: Connection, work: Work, share: Sequence[tuple[float, int]]) -> None:
    with contextlib.suppress(EOFError):
        while True:
            end.recv()
            train(work, share, threads=1)
            end.send(None)


def train(
    work: Work,
    trials: Sequence[tuple[float, int]],
    threads: int,
    make: Callable[[Work], Any] | None = None,
) -> None:
    """Step for each batch of each trial; `make` returns the networks, by default new ones."""
    torch.set_num_threads(threads)
    x, y = _tensors(work)
    for rate, seed in trials:
        torch.manual_seed(seed)
        network = (make or _model)(work)
        optimizer = torch.optim.Adam(network.parameters(), rate, (B1, B2), EPSILON)
        for index in torch.from_numpy(work.orders[seed]).to(DEVICE):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(network(x[index]), y[index]).backward()
            optimizer.step()
    _wait()


def ensemble(work: Work) -> Callable[[], None]:
    """All trials as one stack of parameters: vmap(grad) and Adam on the stack, two threads."""
    x, y = _tensors(work)
    skeleton = copy.deepcopy(_model(work)).to("meta")
    rates, seeds = zip(*work.trials, strict=True)
    orders = torch.from_numpy(work.orders).to(DEVICE)

    def loss(params: Any, x: Any, y: Any) -> Any:
        outputs = torch.func.functional_call(skeleton, params, (x,))
        return torch.nn.functional.cross_entropy(outputs, y)

    gradients = torch.func.vmap(torch.func.grad(loss))

    def run() -> None:
        torch.set_num_threads(2)
        params, _ = torch.func.stack_module_state([_model(work) for _ in work.trials])
        params = {name: p.detach() for name, p in params.items()}
        means, squares = ({n: torch.zeros_like(p) for n, p in params.items()} for _ in range(2))
        for step in range(work.steps):
            index = orders[list(seeds), step]
            for name, g in gradients(params, x[index], y[index]).items():
                means[name].lerp_(g, 1 - B1)
                squares[name].mul_(B2).addcmul_(g, g, value=1 - B2)
                root = (squares[name] / (1 - B2 ** (step + 1))).sqrt_().add_(EPSILON)
                scale = torch.tensor(rates, device=DEVICE).view(-1, *[1] * (g.ndim - 1)) / (
                    1 - B1 ** (step + 1)
                )
                params[name].sub_(scale * means[name] / root)
        _wait()

    return run


def _wait() -> None:
    """Until the GPU has done what it was given."""
    if DEVICE == "cuda":
        torch.cuda.synchronize()


def _tensors(work: Work) -> tuple[Any, Any]:
    x = torch.from_numpy(work.x)
    images = x.permute(0, 3, 1, 2).contiguous() if work.kind == "cnn" else x
    return images.to(DEVICE), torch.from_numpy(work.y).long().to(DEVICE)


def _model(work: Work) -> Any:
    layers: list[Any] = []
    if work.kind == "cnn":
        inputs = 1
        for features in work.channels:
            layers += [torch.nn.Conv2d(inputs, features, 3, padding="same"), torch.nn.ReLU()]
            layers.append(torch.nn.MaxPool2d(2))
            inputs = features
        layers.append(torch.nn.Flatten())
    layers += [torch.nn.Linear(work.features, work.hidden), torch.nn.ReLU()]
    return torch.nn.Sequential(*layers, torch.nn.Linear(work.hidden, CLASSES)).to(DEVICE)
