"""Which learning rate? Compare many, with several seeds each, in one program.

    python docs/tutorial/05_which_learning_rate.py

04 guessed the learning rate. This script compares seven, from far too small to far too large, on
a small network. `make demo` does the same with more rates, more seeds and pictures.
"""

import tempfile
import tomllib
from pathlib import Path

import fbp.sweep
from fbp.config_file import config_of
from fbp.records import create_run, read_records
from fbp.report.run_figures import draw_run

# ## 1. What to compare
#
# One training run says little: another random start gives another result. So each rate is trained
# with three seeds. A rate acts by factors, so the rates are evenly spaced in their logarithms.
# The settings are TOML; on the command line they would be a file.

SETTINGS = """
name = "tutorial"
data.name = "digits"
network = { kind = "mlp", widths = [32] }
optimizer.name = "sgd"
train = { steps = 300, batch_size = 32, evaluate_every = 50, target = 0.9 }
sweep = { learning_rate = { low = 1e-3, high = 1e3, count = 7 }, seeds = 3 }
"""
config = config_of(tomllib.loads(SETTINGS), "the settings above")
problem = fbp.sweep.load_problem(config)

# ## 2. Check the gradient first
#
# If fbp's gradient and JAX's disagreed, nothing below would mean anything.

check = fbp.sweep.check_gradient(problem)
print(check)
assert check.agrees

# ## 3. Train all of them at once
#
# 7 rates times 3 seeds are 21 trials. They are one compiled program: `jax.vmap` over trials, a
# scan over steps. A trial that diverges is stopped, and hurts no other. Each measurement goes to
# a file as soon as it is made.

directory = tempfile.TemporaryDirectory()
run = Path(directory.name) / "run"
create_run(run, SETTINGS)
summary = fbp.sweep.sweep(config, problem, run, check)
print(f"\n{fbp.sweep.summary_table(summary)}\n")

# ## 4. Read the table
#
# Small rates have not arrived after 300 steps. Large ones diverge, or end anywhere. In between,
# the mean of three seeds has an interval. The intervals of 0.1 and of 1 overlap: three seeds
# cannot tell these two apart, and the next thing to do would be more seeds between them.

by_rate = {entry["learning_rate"]: entry for entry in summary["rates"]}
accuracy = {rate: entry["validation_accuracy"]["mean"] or 0.0 for rate, entry in by_rate.items()}
best = summary["best"]
assert accuracy[0.001] < 0.8
assert by_rate[1000.0]["diverged"] == 3
assert best["learning_rate"] in (0.1, 1.0)
assert not best["at_edge"]

# The same as a picture:

draw_run(read_records(run), summary)["accuracy_by_rate"]

# ## 5. The winner, once, on images that chose nothing
#
# The best rate was chosen by its validation accuracy, so that number is a little too good. The
# test images had no part in the choice.

test = best["test_accuracy"]
print(f"best learning rate: {best['learning_rate']}")
print(f"test accuracy {test['mean']:.3f}, 95% interval {test['low']:.3f} to {test['high']:.3f}")
assert test["mean"] > 0.9

# ## 6. What is on the disk
#
# One line for each measurement. The columns are described in fbp/records.py.

records = read_records(run)
print(f"\n{len(records)} records, the first of them:\n   {records[0]}")
assert {record["seed"] for record in records} == {0, 1, 2}
directory.cleanup()

# With the settings in a file, `fbp sweep FILE.toml` does the same, and `fbp report RUN` makes one
# page of it, with pictures. configs/ holds such files.
