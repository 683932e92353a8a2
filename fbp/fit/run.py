"""A fit, as an introductory article tells it: read the body of `fit_network`."""

import time
from dataclasses import replace
from typing import Any

import jax
import numpy as np
from jaxtyping import Float32, Num

from fbp.data.dataset import Task
from fbp.errors import InputError
from fbp.fit.encode import Encoder, SoundEncoder, TableEncoder, encode, learn_encoder
from fbp.fit.fitted import Fitted, Model, predicted_values
from fbp.fit.inputs import Inputs, inputs_of
from fbp.fit.parts import folds, hold_out
from fbp.fit.plan import Plan, plan_for
from fbp.fit.program import Problem
from fbp.fit.score import Score, best_constant, constant_loss, score_of
from fbp.fit.search import Learning
from fbp.fit.story import Story, curve_of
from fbp.fit.target import Target, target_of
from fbp.fit.train import Trained, train_networks

LEAST_ROWS = 5
FEW_ROWS = 100


def fit_network(
    x: Any,
    y: Any,
    *,
    task: Task | None,
    test: float | tuple[Any, Any],
    seed: int,
    target_name: str,
    progress: bool,
) -> Fitted:
    """See `fbp.fit`."""
    begin = time.perf_counter()

    # What is given, and what is to be predicted?
    inputs = inputs_of(x)
    _check_rows(inputs, y)
    target = target_of(y, task, target_name)

    # Keep some rows for the test, and learn from the others.
    inputs, target, unseen, answers = _apart(inputs, target, test, seed)

    # Make a number near 0 of everything.
    encoder, notes = learn_encoder(inputs)
    features = encode(encoder, inputs)
    mean, spread = _scale(target)

    # Choose a network that suits the data, and how to train it.
    plan = plan_for(len(features), features.shape[1:], max(1, len(target.classes)))
    learning = _learning(plan, target, features, mean, spread, seed)

    # Find the rate that trains it best; keep the networks trained with it.
    trained = train_networks(plan, learning, constant_loss(target), seed, progress)
    parts = (target.task, target_name, target.classes, encoder, plan.architecture)
    model = Model(*parts, trained.outcome.members, mean, spread)

    # Measure it on rows that it has never seen.
    if len(answers):
        truth, predicted = answers, predicted_values(model, encode(encoder, unseen))
    else:
        truth, predicted = target.values, _out_of_fold(model, learning)
    part = "test" if len(answers) else "validation"
    score = score_of(target.task, truth, predicted, best_constant(target), part, seed)

    facts = _facts(model, target, plan, trained, len(features))
    more = _notes(trained, len(features), score)
    story = Story(
        **facts,
        seed=seed,
        score=score,
        truth=tuple(truth.tolist()),
        predicted=tuple(predicted.tolist()),
        notes=(*target.notes, *notes, *more),
        seconds=time.perf_counter() - begin,
    )
    return Fitted(model, story)


def _facts(model: Model, target: Target, plan: Plan, trained: Trained, rows: int) -> dict[str, Any]:
    """What a story tells of the model and its training."""
    return {
        "task": model.task,
        "target": model.target_name,
        "classes": tuple(map(str, model.classes)),
        "inputs": _described(model.encoder),
        "rows": rows,
        "plan": plan,
        "parameters": sum(leaf[0].size for leaf in jax.tree.leaves(model.members)),
        "tries": trained.tries,
        "constant_loss": constant_loss(target),
        "range_test": trained.range_test,
        "rates": trained.rates,
        "rate": trained.rate,
        "curve": curve_of(trained.outcome, plan.every),
    }


def _check_rows(inputs: Inputs, y: Any) -> None:
    if len(inputs) != np.size(y):
        raise InputError(f"x has {len(inputs)} rows, y {np.size(y)}: give a target for each row")
    if len(inputs) < LEAST_ROWS:
        raise InputError(
            f"too few rows, n_samples = {len(inputs)}: give at least {LEAST_ROWS}, better hundreds"
        )


def _apart(
    inputs: Inputs, target: Target, test: float | tuple[Any, Any], seed: int
) -> tuple[Inputs, Target, Inputs, Num[np.ndarray, " tested"]]:
    """Rows to learn from and their target; rows for the test and their values."""
    if isinstance(test, tuple):
        return inputs, target, inputs_of(test[0]), _test_values(target, test[1])
    if not 0 <= test < 1:
        raise InputError(f"test is {test}: give the share of rows to keep apart, such as 0.2")
    learnt, kept = hold_out(_strata(target), test, np.random.default_rng(seed))
    chosen = replace(target, values=target.values[learnt])
    return inputs[learnt], chosen, inputs[kept], target.values[kept]


def _test_values(target: Target, y: Any) -> Num[np.ndarray, " tested"]:
    labels = np.asarray(y)
    if target.task == "regression":
        return target_of(labels, "regression", "the test's y").values
    unknown = np.setdiff1d(labels, target.classes)
    if len(unknown):
        raise InputError(f"the test's y holds {unknown[0]!s}, a class that no row of y has")
    return np.searchsorted(target.classes, labels).astype(np.int32)


def _strata(target: Target) -> Num[np.ndarray, " rows"]:
    """Classes are divided alike; the rows of a regression at random."""
    return target.values if target.task == "classification" else np.zeros(len(target.values), int)


def _scale(target: Target) -> tuple[float, float]:
    if target.task == "classification":
        return 0.0, 1.0
    spread = float(target.values.std())
    return float(target.values.mean()), spread if spread > 0 else 1.0


def _learning(
    plan: Plan,
    target: Target,
    features: Float32[np.ndarray, "rows ..."],
    mean: float,
    spread: float,
    seed: int,
) -> Learning:
    regression = target.task == "regression"
    return Learning(
        problem=Problem(
            target.task,
            plan.architecture,
            (plan.batch_size, *features.shape[1:]),
            plan.together,
            plan.weight_decay,
        ),
        x=features,
        y=((target.values - mean) / spread).astype(np.float32) if regression else target.values,
        folds=folds(_strata(target), plan.members, np.random.default_rng(seed)),
        batch_size=plan.batch_size,
        every=plan.every,
        patience=plan.patience,
    )


def _out_of_fold(model: Model, learning: Learning) -> Num[np.ndarray, " rows"]:
    """Each row predicted by the network that was not trained on it."""
    predicted = np.zeros(len(learning.x), np.float64 if model.task == "regression" else np.int32)
    for number, fold in enumerate(learning.folds):
        alone = replace(
            model, members=jax.tree.map(lambda leaf, n=number: leaf[n : n + 1], model.members)
        )
        predicted[fold.validation] = predicted_values(alone, learning.x[fold.validation])
    return predicted


def _described(encoder: Encoder) -> str:
    if isinstance(encoder, TableEncoder):
        return f"a table of {len(encoder.columns)} columns"
    if isinstance(encoder, SoundEncoder):
        return f"sounds of {encoder.rate:,} samples per second, as log-mel features"
    height, width, colours = encoder.shape
    return f"images of {width} x {height} pixels" + (" in colour" if colours > 1 else "")


def _notes(trained: Trained, rows: int, score: Score) -> tuple[str, ...]:
    """What a reader should know before believing the score."""
    rates = [tried.rate for tried in trained.rates]
    diverged = sum(tried.losses.count(None) for tried in trained.rates)
    found = {
        f"There are few rows to learn from, {rows}: another division of the rows may give "
        "another score.": rows < FEW_ROWS,
        f"The test has {score.rows} rows: the interval says how little that is.": (
            score.part == "test" and score.rows < FEW_ROWS
        ),
        "No rows were kept for a test: the score is of rows on which training was stopped and "
        "the rate was chosen, and somewhat too good.": score.part == "validation",
        f"The rate chosen, {trained.rate:.2g}, is the "
        f"{'highest' if trained.rate == max(rates) else 'lowest'} that was tried.": (
            trained.rate in (max(rates), min(rates))
        ),
        f"{diverged} trainings diverged; their rates were not chosen.": diverged > 0,
        f"{trained.tries} starts were needed; the best one counts.": trained.tries > 1,
    }
    return tuple(text for text, true in found.items() if true)
