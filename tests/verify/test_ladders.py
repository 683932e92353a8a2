"""The ladder of a right gradient is a V, that of a wrong one a floor."""

import jax.numpy as jnp
import numpy as np

from fbp.verify import ladders


def value(params):
    return jnp.sum(jnp.sin(params["w"]) * jnp.exp(params["z"]).real)


def point(**others):
    return others | {"w": jnp.arange(3.0), "z": jnp.full(3, 0.5 + 0.1j)}


def test_the_errors_of_a_right_gradient_fall_and_rise_again():
    for ladder in ladders(value, point()):
        best = int(np.argmin(ladder.errors))
        assert 5 < best < len(ladder.steps) - 5
        assert ladder.errors[best] < 1e-9 < 1e-4 < ladder.errors[0]
        assert ladder.errors[best] < 1e-2 * ladder.errors[-1]
        assert ladder.limit < 2 * ladder.bar < 1e-9


def test_those_of_a_wrong_gradient_stay_on_a_floor():
    def wrong(params):
        return {"w": 1.01 * jnp.cos(params["w"]) * jnp.exp(params["z"]).real, "z": params["z"]}

    ladder, _ = ladders(value, point(), gradient=wrong)
    assert ladder.limit > 1e6 * ladder.bar
    assert min(ladder.errors[10:]) > 0.9 * ladder.limit


def test_a_leaf_has_the_same_direction_whatever_is_beside_it():
    both = ladders(value, point(a=jnp.ones(2)))
    assert [ladder.leaf for ladder in both][1:] == ["args[0]['w']", "args[0]['z']"]
    assert both[1] == ladders(value, point())[0]


def test_a_function_that_cannot_be_traced_is_evaluated_point_by_point():
    x = np.arange(1.0, 4.0)
    (ladder,) = ladders(lambda x: float(np.sum(x**3)), x, gradient=lambda x: 3 * x**2)
    assert ladder.limit <= 2 * ladder.bar
