"""A small run as a sweep leaves it, made without training."""

import json

from fbp.report.summary import summarize

RATES = (0.001, 0.01, 0.1, 1.0)
CONFIG = 'name = "made <run>"\n\n[train]\ntarget = 0.7\n'
ENVIRONMENT = {
    "time": "2026-01-01T00:00:00+00:00",
    "command": ["fbp", "sweep", "my config.toml"],
    "versions": {"jax": "0.10.2"},
    "device": {"kind": "cpu", "count": 1},
}


def records(*, rates=RATES, seeds=3, score="accuracy", steps=(10, 20, 30), extra=({},)):
    """The loss falls the faster the larger the rate; a rate of 1 or more diverges at step 20."""
    rows = []
    for others in extra:
        for rate in rates:
            for seed in range(seeds):
                trial = len({row["trial"] for row in rows})
                rows += _trial(
                    {"trial": trial, "learning_rate": rate, "seed": seed} | others, steps, score
                )
    return rows


def _trial(base, steps, score):
    for step in steps:
        if base["learning_rate"] >= 1 and step >= 20:
            yield {"kind": "diverged", "step": step} | base
            return
        loss = 2.0 / (1 + base["learning_rate"] * step) + 0.01 * base["seed"]
        yield {"kind": "train", "step": step, "loss": loss} | base
        measured = {"split": "validation", "loss": 1.1 * loss, score: 1 - loss / 2.5}
        yield {"kind": "eval", "step": step} | base | measured


def write(directory, rows=None, *, complete=True, task="classification", metric="accuracy"):
    """The directory of a run with these rows."""
    rows = records() if rows is None else rows
    directory.mkdir(exist_ok=True)
    (directory / "config.toml").write_text(CONFIG)
    (directory / "environment.json").write_text(json.dumps(ENVIRONMENT))
    if complete:
        rows = rows + _tests(rows, summarize(rows, "", task, metric, 0.7)["best"], metric)
        summary = summarize(rows, "made <run>", task, metric, 0.7)
        summary |= {"gradient_check": {"max_ulps": 1.5, "leaf": "['dense']['w']"}}
        summary |= {"seconds": 12.34, "trial_steps_per_second": 5120.0}
        (directory / "summary.json").write_text(json.dumps(summary))
    (directory / "records.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return directory


def _tests(rows, best, metric):
    if best is None:
        return []
    last = max(row["step"] for row in rows if row["kind"] == "eval")
    return [
        row | {"kind": "test", metric: row[metric] - 0.05}
        for row in rows
        if row["kind"] == "eval"
        and row["step"] == last
        and row["learning_rate"] == best["learning_rate"]
    ]
