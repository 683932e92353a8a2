"""What is timed is right: each program has the same gradient in fbp and in jax.grad."""

import sys
from collections import Counter

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fbp
from benchmarks import (
    divided,
    eager,
    false_alarms,
    gradients,
    loops,
    opened,
    scripts,
    second_order,
    verification,
)
from benchmarks.accelerator import device, rules, steps, words
from benchmarks.clients import Client
from benchmarks.clients import __main__ as of_clients
from benchmarks.mutants import FAULTS
from benchmarks.programs import PROGRAMS, SMALL, program
from benchmarks.throughput import bare_dots, fbp_sweep, hand_written, scikit_learn
from benchmarks.throughput.contenders import CONTENDERS, Contender
from benchmarks.throughput.measure import Measured, Speed, measure
from benchmarks.throughput.words import TARGETS, table, verdicts
from benchmarks.throughput.work import work_of
from fbp.testing import Case
from fbp.verify.problem import problem_of


@pytest.mark.parametrize("name", PROGRAMS)
def test_both_sides_compute_the_same_gradient(name):
    subject = program(name, small=True)
    losses = subject.losses()
    sides = {
        side: jax.jit(value_and_grad(losses[side]))
        for side, value_and_grad in gradients.VALUE_AND_GRAD.items()
    }
    gradients.check_same(sides, (subject.params, *subject.data), subject.ulps)


def slow_but(every_day, names):
    """The slow tests run all of these names."""
    return [pytest.param(n, marks=[] if n in every_day else pytest.mark.slow) for n in names]


@pytest.mark.parametrize("name", slow_but({"newton", "rnn"}, eager.CASES))
def test_both_sides_compute_the_same_gradient_without_jit(name):
    seconds = eager.measure(eager.CASES[name], repeats=1)
    assert seconds.keys() == {"fbp", "jax"}
    assert all(taken > 0 for (taken,) in seconds.values())


@pytest.mark.parametrize("name", slow_but({"hmm", "softplus"}, second_order.FUNCTIONS))
def test_both_sides_compute_the_same_product_with_the_hessian(name):
    fun = second_order.FUNCTIONS[name]
    with jax.enable_x64(True):
        params = second_order.arguments(fun)
        v = jax.tree.map(jnp.cos, params)
        products = [second_order.products(g, fun)["reverse"] for g in (fbp.grad, jax.grad)]
        ours, theirs = jax.jit(lambda *args: [product(*args) for product in products])(params, v)
        chex.assert_trees_all_close(ours, theirs, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize(("name", "most"), [("hmm", 1.9), ("softplus", 1.1), ("lstm", 1.25)])
def test_a_second_derivative_does_not_compute_again_what_the_first_did(name, most):
    fun = second_order.FUNCTIONS[name]
    args = (second_order.arguments(fun),) * 2
    for product in ("gradient", "reverse"):
        ours, theirs = (
            second_order.counts(second_order.products(grad, fun)[product], args)[1]
            for grad in (fbp.grad, jax.grad)
        )
        assert ours <= most * theirs


def test_every_program_has_a_small_size():
    assert SMALL.keys() == PROGRAMS.keys()


def test_sides_that_differ_are_reported():
    sides = {"fbp": fbp.value_and_grad(lambda x: x**2), "jax": jax.value_and_grad(lambda x: x**3)}
    with pytest.raises(ArithmeticError, match="differ by"):
        gradients.check_same(sides, (1.5,), ulps=64)


def test_equations_of_inner_programs_count_at_each_call():
    double = jax.jit(lambda x: x + x)
    assert gradients.count(jax.make_jaxpr(lambda x: double(double(x)))(1.0).jaxpr) == 4


@pytest.mark.parametrize(
    ("fbp", "goal", "shown"),
    [
        ([2.0, 2.0, 2.0], 1.0, "**2.00**"),
        ([2.0, 2.0, 2.0], 2.0, "2.00"),
        ([1.0, 2.0, 3.0], 2.0, "2.00 [1.00, 3.00]"),
    ],
)
def test_a_figure_above_its_goal_is_bold(fbp, goal, shown):
    assert gradients.cell({"fbp": fbp, "jax": [1.0, 1.0, 1.0]}, goal) == shown


def test_a_case_is_judged_by_its_goals_and_the_mean_by_the_means():
    same = {m: {"fbp": [1.0], "jax": [1.0]} for m in gradients.MEASURES}
    assert gradients.row("straight", same, scans=False).count("**1.00**") == 1  # staging
    assert gradients.row("loop", same, scans=True).count("**1.00**") == 2  # and memory
    assert gradients.mean_row([same]).count("**1.00**") == 3  # staging, step and memory


@pytest.mark.slow
def test_small_programs_are_measured_from_end_to_end():
    figures, loss, instructions = gradients.measure(program("kmeans", small=True), repeats=1)
    assert all(len(figures[m]["fbp"]) == len(figures[m]["jax"]) > 0 for m in gradients.MEASURES)
    assert len(loss["fbp"]) == len(loss["jax"]) > 0
    assert instructions["fbp"]["reduce"] > 0


def measured(fbp: float, more: Counter[str]) -> gradients.Measured:
    """All figures of JAX's side are 1, and it has five additions."""
    figures = {m: {"fbp": [fbp], "jax": [1.0]} for m in gradients.MEASURES}
    jax = Counter(add=5)
    return gradients.Measured(figures, {"fbp": [0.25]}, {"fbp": jax + more, "jax": jax})


def test_a_goal_that_is_missed_is_explained_by_what_the_programs_hold():
    subject = program("kmeans", small=True)
    assert not gradients.explanations("kmeans", subject, measured(0.5, Counter()))
    staging, *compiled = gradients.explanations("kmeans", subject, measured(2.0, Counter(dot=3)))
    assert "staging: to trace the loss alone takes 0.25" in staging
    assert "2 equations beside 1" in staging
    assert all("8 HLO instructions beside 5: 3 more dot" in text for text in compiled)
    assert [text.split(":")[0] for text in compiled] == [
        f"- kmeans, {m}" for m in ("compile", "step", "memory")
    ]
    _, *compiled = gradients.explanations("kmeans", subject, measured(2.0, Counter()))
    assert all("chance" in text for text in compiled)


def test_that_jax_differentiates_another_program_is_said():
    subject = program("while_loop", small=True)
    texts = gradients.explanations("while_loop", subject, measured(2.0, Counter(dot=3)))
    assert all(text.endswith("(JAX's program is another one)") for text in texts)


def test_loops_are_measured_at_a_known_trip_count_and_the_unknown_raises_in_jax():
    trips, *cells = loops.measure(5, repeats=1)
    assert trips == "5"
    assert [i for i, c in enumerate(cells) if c == loops.RAISES] == [3, 7]


@pytest.mark.slow
@pytest.mark.parametrize("name", loops.PARTS)
def test_loops_over_parts_of_arrays_are_measured(name):
    called, entries, *cells = loops.measure_parts(name, 8, repeats=1)
    assert (called, entries, len(cells)) == (name, "8", 6)


def test_mutants_are_caught_and_localized():
    problem = problem_of(lambda x: jnp.sum(jnp.sin(x) * x), (jnp.arange(1.0, 4.0),), 0)
    actual = verification.mutants(problem, with_peers=True)
    assert {m.fault for m in actual} == set(FAULTS)
    assert all(m.caught and m.localised for m in actual)
    assert not all(m.peers["chex"] for m in actual)


def test_right_gradients_are_called_right():
    assert false_alarms.alarms(false_alarms.FUNCTIONS["norm"], jnp.arange(3.0))["fbp"] is False


@pytest.fixture
def as_users_run_it():
    """JAX promotes types as it does by default; optax's Adam needs that."""
    with jax.numpy_dtype_promotion("standard"):
        yield


def work(kind):
    """32 trials of two steps on images of noise."""
    rng = np.random.default_rng(0)
    return work_of(kind, 4, 2, rng.random((64, 8, 8, 1), np.float32), rng.integers(0, 10, 64))


def test_all_contenders_see_the_same_batches():
    small = work("mlp")
    assert small.orders.shape == (4, 2, 64)
    np.testing.assert_array_equal(small.orders, work("cnn").orders)
    assert len(set(small.trials)) == 32
    assert [rate for rate, _ in small.some_trials] == sorted({rate for rate, _ in small.trials})


def assert_same(params, expected):
    chex.assert_trees_all_close(params, expected, rtol=1e-7, atol=1e-5)


def of_trial(params, number):
    return jax.tree.map(lambda leaf: leaf[number], params)


@pytest.mark.slow
@pytest.mark.usefixtures("as_users_run_it")
def test_every_way_by_hand_trains_the_same_parameters():
    small = work("mlp")
    expected = hand_written.jit_vmap(small)()
    assert_same(hand_written.shard_map(small)(), expected)
    for number, params in enumerate(hand_written.jit_scan(small)()):
        assert_same(params, of_trial(expected, number))
    for trial, params in zip(small.some_trials, hand_written.python_loop(small)(), strict=True):
        assert_same(params, of_trial(expected, small.trials.index(trial)))


@pytest.mark.parametrize("kind", ["mlp", "cnn"])
def test_the_network_by_hand_has_the_shapes_of_fbps(kind):
    problem, key = fbp_sweep.problem_of(work(kind)), jax.random.key(0)
    ours, _ = jax.eval_shape(lambda key: problem.init.init(key, problem.in_shape), key)
    by_hand = jax.eval_shape(lambda key: hand_written.parameters(work(kind), key), key)
    shapes = [sorted(leaf.shape for leaf in jax.tree.leaves(params)) for params in (ours, by_hand)]
    assert shapes[0] == shapes[1]


@pytest.mark.usefixtures("as_users_run_it")
def test_fbps_sweep_says_how_it_ran_the_trials(monkeypatch):
    monkeypatch.setattr(fbp_sweep, "LONG", 2)
    assert fbp_sweep.sweep(work("mlp"))().startswith("vmap, 8 devices; drawing 0.")


def test_scikit_learn_and_the_bare_products_run():
    scikit_learn.mlp_classifier(work("mlp"))()
    assert not np.any(bare_dots.dots(work("mlp"))())
    assert bare_dots.operations(work("mlp")) == 2 * 64 * (
        64 * 4 + 4 * 10 + 10 * 4 + 4 * 10 + 64 * 4
    )


@pytest.mark.usefixtures("as_users_run_it")
def test_a_contender_that_is_not_installed_is_named(monkeypatch):
    absent = Contender("absent", ("pytorch", "ensemble"), "other")
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.delitem(sys.modules, "benchmarks.throughput.pytorch", raising=False)
    present = Contender("present", ("hand_written", "jit_map"), "hand-written JAX")
    measured = measure(work("mlp"), 2, (absent, present))
    assert measured.missing == ("absent",)
    assert "| absent | not installed |" in table(measured)
    (speed,) = measured.speeds
    assert speed.contender is present
    assert len(speed.rates) == 2
    assert min(speed.rates) > 0
    assert speed.cold > 0


def speeds(**rates):
    """Measured at width 16: fbp, and the first contender of each other group."""
    chosen = {c.group: c for c in reversed(CONTENDERS)}
    actual = [Speed(chosen[g.replace("_", " ")], 1.0, (r,), "") for g, r in rates.items()]
    return Measured(
        work_of("mlp", 16, 1, np.zeros((1, 8, 8, 1), np.float32), np.zeros(1)),
        tuple(actual),
        (),
        (0.0, 0.0),
    )


def test_a_target_is_reached_from_its_ratio_on():
    reached = verdicts(speeds(fbp=40.0, PyTorch_loop=2.0, other=3.0))
    assert reached[0].endswith("to reach 20x: reached")
    missed = verdicts(speeds(fbp=39.0, PyTorch_loop=2.0, other=3.0))
    assert missed[0].endswith("to reach 20x: MISSED")
    assert "not measured" in missed[-1]


def test_every_target_is_judged_somewhere():
    groups = {contender.group for contender in CONTENDERS}
    assert all(set(target.groups) <= groups for target in TARGETS)


def test_a_large_step_is_beside_jaxs_in_time_and_value():
    here = device.measure_device(16)
    step = steps.step(steps.large(small=True)["mlp"], "bfloat16", here)
    assert step.ulps <= 64
    assert step.of_products == pytest.approx(step.rate / here.products["bfloat16"])
    assert np.isnan(step.of_peak)
    assert "not known" in words.steps_row("mlp", "bfloat16", step)


def test_rules_of_a_family_need_no_more_than_their_tolerance_here():
    actual = {dtype: family for _, dtype, family in rules.families(("products",))}
    assert actual.keys() == set(rules.DTYPES)
    assert all(f.compared > 0 and f.multiple <= 1 and not f.failed for f in actual.values())


def test_a_case_that_a_device_cannot_run_is_named_and_the_others_are_compared():
    class Broken:
        primitive, name, tolerance, per_element = jax.lax.sin_p, "broken", 1, False

        def arguments(self, dtype):
            raise NotImplementedError("no such thing here")

    case = Case(jax.lax.sin_p, jnp.sin, ((3,),))
    actual = rules.outcome([Broken(), case], "float32")
    assert actual.compared == 1
    assert actual.failed == ("sin broken: NotImplementedError: no such thing here",)


@pytest.mark.parametrize("case", opened.CASES, ids=lambda case: case.name)
def test_a_tap_measures_what_is_measured_by_hand(case, monkeypatch):
    for name, size in {"WIDTH": 8, "BATCH": 6, "DEPTH": 3}.items():
        monkeypatch.setattr(opened, name, size)
    args = opened.arguments()
    (grads, tapped), (_, want) = case.opened(*args), case.naive(*args)
    chex.assert_trees_all_close(grads, case.gradient(*args), rtol=1e-6)
    scale = opened.BATCH**2 if "each example" in case.name else 1  # of the mean, of each alone
    got, want = (
        np.concatenate(jax.tree.leaves(jax.tree.map(jnp.ravel, t))) for t in (tapped, want)
    )
    np.testing.assert_allclose(got * scale, want, rtol=1e-4, atol=1e-9)


def test_a_client_costs_what_its_programs_do():
    """By fbp a program is another one: an override is in force while it is traced."""
    client = Client("double", "jax", lambda: (jax.grad(lambda x: jnp.sum(x * x)), (jnp.ones(8),)))
    by_fbp, by_jax = (of_clients.costs(client, side, 1, True) for side in ("fbp", "jax"))
    assert of_clients.ratios(by_fbp, by_jax).keys() == set(of_clients.MEASURES)
    assert of_clients.ratios(by_jax, by_jax) == dict.fromkeys(of_clients.MEASURES, 1.0)
    assert of_clients.distance(by_fbp, by_jax) == 0
    shown = of_clients.row("a", {"staging": 0.5, "flops": 1.06}, 3.0)
    assert shown == "| a | 0.50 | **1.06** | 3 |"


def test_an_absent_client_is_said():
    assert not Client("absent", "no_such_library", lambda: None).is_installed


def test_what_scripts_print_is_compared():
    plain = scripts.Run(0, "step 1 loss 0.50\nfinished\nstep 2 loss 2.5e-1", "")
    assert plain.numbers == [[1.0, 0.5], [2.0, 0.25]]
    assert scripts.compared(plain, plain) == "4 numbers, largest relative difference 0.0e+00"
    other = scripts.Run(0, "step 1 loss 0.50\nstep 2 loss 2.6e-1", "")
    assert scripts.compared(plain, other).endswith("difference 4.0e-02")
    assert scripts.compared(plain, scripts.Run(0, "1 2 3", "")) == "other lines are printed"
    failed = scripts.Run(3, "", "KeyError: 'x'")
    assert scripts.compared(plain, failed) == "fbp run ends with 3: KeyError: 'x'"


def test_interval_of_a_sweep_in_parts_is_of_the_ratios_logarithms():
    mean, low, high = divided.interval(np.log([0.5, 1.0, 2.0]))
    assert mean == pytest.approx(1.0)
    assert high == pytest.approx(np.exp(4.302653 * np.log(2) / np.sqrt(3)))
    assert low * high == pytest.approx(1.0)
    assert divided.interval(np.log([1.1, 1.1, 1.1])) == pytest.approx((1.1, 1.1, 1.1))
    walls, processors = divided._logs([(1.0, 4.0)] * 2, [(2.0, 1.0)] * 2)
    assert np.exp(walls) == pytest.approx([0.5, 0.5])
    assert np.exp(processors) == pytest.approx([4.0, 4.0])
