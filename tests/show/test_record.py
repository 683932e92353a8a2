"""What is recorded is what the tape holds, and it obeys backpropagation's equations."""

from dataclasses import replace
from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import fbp
from fbp.show import moons, record, xor
from fbp.show.lesson import check_edges
from fbp.show.record import film_of, frame_steps, slow_step

close = partial(np.testing.assert_allclose, rtol=2e-6, atol=1e-8)


@pytest.fixture(scope="module")
def run():
    return record(xor(), seed=1)


def test_the_first_loss_and_all_derivatives_are_those_of_jax(run):
    lesson, step = run.lesson, run.slow[0]
    weights = lesson.draw(jax.random.key(1))
    x, t = lesson.x[0], lesson.t[0]
    value, grads = jax.value_and_grad(lesson.loss)(weights, x, t)
    assert step.loss == value
    chex.assert_trees_all_close(
        [{"w": layer.d_w, "b": layer.d_b} for layer in step.layers], grads, rtol=2e-6
    )


@pytest.mark.parametrize("number", range(4))
def test_each_step_obeys_the_equations_of_backpropagation(run, number):
    step = run.slow[number]
    for layer in step.layers:
        close(layer.carried, layer.x[:, None] * layer.w)
        close(layer.a, layer.carried.sum(0) + layer.b, atol=1e-6)
        close(layer.d_a, layer.d_h * layer.slope)
        close(layer.message, layer.d_a * layer.w)
        close(layer.d_w, layer.x[:, None] * layer.d_a)
        close(layer.d_b, layer.d_a)
        assert np.array_equal(layer.w_next, layer.w - np.float32(run.lesson.rate) * layer.d_w)
    for before, after in zip(step.layers[:-1], step.layers[1:], strict=True):
        close(before.d_h, after.message.sum(1))
        assert np.array_equal(before.h, after.x)


def test_each_step_starts_where_the_one_before_ended(run):
    for before, after in zip(run.slow[:-1], run.slow[1:], strict=True):
        for old, new in zip(before.layers, after.layers, strict=True):
            assert np.array_equal(old.w_next, new.w)
            assert np.array_equal(old.b_next, new.b)


def test_the_loss_after_an_update_is_that_of_the_next_weights(run):
    step, lesson = run.slow[2], run.lesson
    weights = [{"w": layer.w_next, "b": layer.b_next} for layer in step.layers]
    close(step.loss_next, lesson.loss(weights, lesson.x[2], lesson.t[2]))


def test_a_wrong_rule_shows():
    lesson = xor()
    weights = lesson.draw(jax.random.key(1))
    tripled = fbp.rule.derivative(lax.tanh_p, lambda x, y: 3 * (1 - y * y))
    right, _ = slow_step(lesson, weights, 0)
    wrong, _ = slow_step(lesson, weights, 0, fbp.RULES | tripled)
    close(wrong.layers[1].d_a, 3 * right.layers[1].d_a)
    close(wrong.layers[2].d_a, right.layers[2].d_a)
    assert not np.allclose(wrong.layers[1].w_next, right.layers[1].w_next)


def test_the_film_is_gradient_descent_by_the_mean_of_all_examples(run):
    lesson, film = run.lesson, run.film
    weights = jax.tree.map(lambda w: w[3], film.weights)
    grads = jax.grad(lesson.mean_loss)(weights)
    after = jax.tree.map(lambda w, g: w - lesson.rate * g, weights, grads)
    chex.assert_trees_all_close(after, jax.tree.map(lambda w: w[4], film.weights), rtol=1e-5)
    assert film.steps[:21].tolist() == list(range(21))
    assert film.steps[-1] == lesson.steps
    assert film.losses[-1] < 0.02 < film.losses[0]
    assert film.right[-1] == 1.0


def test_the_map_is_the_output_over_the_plane(run):
    film, lesson = run.film, run.lesson
    x0, x1, _, y1 = film.plane
    side = film.maps.shape[-1]
    corner = np.array([x0 + (x1 - x0) / side / 2, 0], np.float32)
    corner[1] = y1 - (film.plane[3] - film.plane[2]) / side / 2
    last = jax.tree.map(lambda w: w[-1], film.weights)
    close(film.maps[-1, 0, 0], lesson.outputs_of(last, corner)[0], rtol=1e-5)


def test_the_three_rates_creep_arrive_and_do_not_arrive(run):
    outcomes = [walk.outcome for walk in run.valley.walks]
    assert outcomes[:2] == ["creeps", "arrives"]
    assert outcomes[2] in ("jumps to and fro", "flies off")


def test_the_walks_lie_on_the_surface_that_is_drawn(run):
    valley = run.valley
    walk = valley.walks[0]
    for point, loss in zip(walk.points, walk.losses, strict=True):
        column = np.abs(valley.axes[0] - point[0]).argmin()
        row = np.abs(valley.axes[1] - point[1]).argmin()
        around = valley.surface[max(0, row - 1) : row + 2, max(0, column - 1) : column + 2]
        assert around.min() - 0.01 <= loss <= around.max() + 0.01
    close(walk.points[1], walk.points[0] - walk.rate * walk.slopes[0], rtol=1e-5)


def test_the_same_seed_records_the_same_run(run):
    again = record(xor(), seed=1)
    chex.assert_trees_all_equal(again.film.weights, run.film.weights)
    assert [w.losses.tolist() for w in again.valley.walks] == [
        w.losses.tolist() for w in run.valley.walks
    ]


def test_a_run_that_flies_off_is_recorded_to_its_last_finite_step():
    lesson = replace(xor(), output="identity", activation="relu", rate=30.0, steps=60)
    film = film_of(lesson, lesson.draw(jax.random.key(0)))
    assert film.diverged is not None
    assert np.isfinite(film.losses[:-1]).all()
    assert film.steps[-1] < film.diverged


def test_a_start_that_is_not_finite_is_refused():
    lesson = replace(xor(), x=np.full((4, 2), np.inf, np.float32))
    with pytest.raises(fbp.InputError, match="not finite before the first step"):
        record(lesson)


@pytest.mark.parametrize("last", [0, 1, 20, 21, 22, 100, 10**6])
def test_frames_begin_at_step_0_and_end_at_the_last(last):
    steps = frame_steps(last)
    assert steps[0] == 0
    assert steps[-1] == last
    assert (np.diff(steps) > 0).all()


def test_moons_are_learned():
    lesson = moons()
    film = film_of(lesson, lesson.draw(jax.random.key(1)))
    assert film.right[-1] == 1.0
    assert jnp.isfinite(film.losses).all()


def test_more_edges_than_can_be_told_apart_are_refused():
    check_edges((2, 4, 3, 1))
    with pytest.raises(fbp.InputError, match="has 61 edges"):
        check_edges((61, 1))
