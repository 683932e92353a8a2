"""A training run of two real processes on the loopback, two devices each, beside one process."""

import json
import re

import jax
import numpy as np
import optax
import pytest

from fbp.data import load
from fbp.nn import mlp
from fbp.train import train

RUN = """
import json, sys
from pathlib import Path

import jax, numpy as np, optax

coordinator, number, directory = sys.argv[1:]
jax.distributed.initialize(coordinator, 2, int(number), cluster_detection_method="deactivate")
from fbp.data import load
from fbp.data.dataset import Split
from fbp.nn import mlp
from fbp.train import train
from fbp.train.sharding import data_mesh, shard_examples

outcome = train(
    mlp([8, 10]), load("digits"), optax.sgd(0.2), key=jax.random.key(3), steps=8, batch_size=16,
    evaluate_every=4, checkpoints=Path(directory),
)
class Rows(np.ndarray):
    def __getitem__(self, rows):
        print("rows", rows.start, rows.stop)
        return np.asarray(super().__getitem__(rows))

examples = Split(np.zeros((10, 3), np.float32).view(Rows), np.zeros(10, np.int32))
shard_examples(examples, data_mesh(16))
devices = outcome.state.params["1_dense"]["bias"].sharding.num_devices
print("losses", json.dumps([devices, *(each.loss for each in outcome.history)]))
"""


def alone(steps, checkpoints=None):
    """Four devices of this process."""
    outcome = train(
        mlp([8, 10]),
        load("digits"),
        optax.sgd(0.2),
        key=jax.random.key(3),
        steps=steps,
        batch_size=16,
        evaluate_every=4,
        mesh=jax.make_mesh((4,), ("data",), devices=jax.devices()[:4]),
        checkpoints=checkpoints,
    )
    return [each.loss for each in outcome.history]


@pytest.mark.slow
def test_two_processes_read_their_shares_train_as_one_and_one_goes_on(tmp_path, by_two_processes):
    told = by_two_processes(RUN, tmp_path / "run")
    (devices, *losses), again = (
        json.loads(out.split("losses ")[1].splitlines()[0]) for out in told
    )
    assert again == [devices, *losses]
    assert devices == 4
    rows = [{tuple(map(int, row)) for row in re.findall(r"rows (\d+) (\d+)", out)} for out in told]
    assert rows == [{(0, 3), (3, 6)}, {(6, 9), (9, 12)}]
    resumed = alone(16, tmp_path / "run")
    assert resumed[:3] == losses
    np.testing.assert_allclose(resumed, alone(16), rtol=1e-5)
