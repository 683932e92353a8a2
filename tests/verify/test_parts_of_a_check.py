"""Each part of a check stands by itself."""

import importlib
import signal

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fbp
from fbp.verify import Interrupted, Kind, check
from tests.support.faulty import FAULTS, with_fault

X = jnp.array([0.3, -0.7])


@jax.custom_vjp
def doubled(x):
    return jnp.sin(x)


doubled.defvjp(lambda x: (jnp.sin(x), x), lambda x, g: (2 * g * jnp.cos(x),))


def by_host(x):
    shape = jax.ShapeDtypeStruct(x.shape, x.dtype)
    return jax.pure_callback(lambda x: np.cos(np.asarray(x)), shape, x, vmap_method="sequential")


def fails(*_, **__):
    raise RuntimeError("injected")


WRONG = {"check.wrong_rules": with_fault("mul", FAULTS["doubled"])}
PARTS = [
    *(
        "leaf_verdicts.verdicts_of",
        "leaf_verdicts.gradient_in_double",
        "leaf_verdicts.jax_reference",
    ),
    *("leaf_verdicts.coarsest_in_double", "check.wrong_rules", "check.audit"),
    *("check.audit_transposes", "check.disagreements", "check.opaque", "check._zero"),
    *("check.calls_out", "check._not_finite", "check.wrong_derivative", "check.by_fbp"),
    *("custom_rules.try_use", "custom_rules.value_and_grad", "rule_findings.of_operand"),
    *("under_transforms._under_vmap", "rule_trial.second_derivative"),
]


@pytest.mark.parametrize("part", PARTS)
def test_a_part_that_fails_is_said_and_takes_down_no_other(part, monkeypatch):
    module, name = part.split(".")
    monkeypatch.setattr(importlib.import_module(f"fbp.verify.{module}"), name, fails)
    report = check(lambda x, y: jnp.sum(doubled(x * y)), X, X, rules=WRONG.get(part, fbp.RULES))
    said = [*report.unchecked, *(x for rule in report.rules for x in rule.unjudged)]
    said += [rule.second_derivative for rule in report.rules]
    assert any("injected" in x for x in (*said, *report.checked)), report
    assert [leaf.leaf for leaf in report.leaves] == ["args[0]"]
    if part not in ("check.audit", "custom_rules.try_use", "rule_findings.of_operand"):
        assert any("doubled" in f.message for f in report.failures), report


def test_a_second_implementation_that_fails_is_said():
    report = check(jnp.sum, X, reference=fails)
    assert any("could not check the values" in x for x in report.unchecked)
    assert report.verdict != "right"


def test_what_the_function_itself_raises_is_raised():
    with pytest.raises(RuntimeError, match="injected"):
        check(fails, X)


def test_a_gradient_by_the_host_that_fails_at_the_second_call_is_said():
    calls = []

    def gradient(x):
        calls.append(1)
        return np.cos(np.asarray(x)) if len(calls) < 2 else fails()

    report = check(lambda x: jnp.sum(jnp.sin(x)), X, gradient=gradient)
    assert any("injected" in x for x in report.unchecked)
    assert all(leaf.ok for leaf in report.leaves)


def test_arrays_of_numpy_in_wide_dtypes_are_taken_as_jax_takes_them():
    def fun(w, x, rows):
        return jnp.sum(jnp.sin(w * x)[rows])

    assert check(fun, X, np.arange(2.0), np.array([0, 1, 1])).verdict == "right"


def test_what_is_not_differentiated_is_batched_too():
    @jax.custom_batching.custom_vmap
    def slope(w, x):
        return jnp.cos(w * x) * x

    @slope.def_vmap
    def _(size, batched, w, x):
        w, x = (
            a if b else jnp.broadcast_to(a, (size, *a.shape))
            for a, b in zip((w, x), batched, strict=True)
        )
        return jnp.cos(w * x) * x * (1.1 if batched[1] else 1.0), True

    @jax.custom_vjp
    def wave(w, x):
        return jnp.sin(w * x)

    wave.defvjp(lambda w, x: (jnp.sin(w * x), (w, x)), lambda kept, g: (g * slope(*kept), None))
    (finding,) = check(lambda w, x: jnp.sum(wave(w, x)), X, X).failures
    assert finding.kind is Kind.TRANSFORM
    assert "not differentiated" in finding.message


@pytest.fixture
def interruptible():
    """A process that runs in the background may have been started without."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_an_interrupt_within_a_callback_ends_the_check_with_what_is_known():
    calls = []

    def gradient(x):
        def on_host(x):
            calls.append(1)
            if len(calls) == 3:
                signal.raise_signal(signal.SIGINT)
            return np.cos(np.asarray(x))

        shape = jax.ShapeDtypeStruct(x.shape, x.dtype)
        return jax.pure_callback(on_host, shape, x, vmap_method="sequential")

    with pytest.raises(Interrupted) as stopped:
        check(lambda x: jnp.sum(jnp.sin(x)), X, gradient=gradient)
    report = stopped.value.report
    assert "could not check the rest: interrupted" in report.unchecked
    assert len(calls) < 6
