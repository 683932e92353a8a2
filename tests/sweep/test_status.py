"""What a sweep is doing is told on a terminal, and by a line now and then where there is none."""

import time

import numpy as np

from fbp.sweep import status
from fbp.sweep.status import Status


def test_line_says_what_is_done_how_far_the_best_so_far_and_the_time_left():
    with Status("demo", 100, 0, "accuracy", True) as shown:
        shown.say("compiling")
        assert shown.line() == "demo: compiling, 0%"
        shown.say("")
        shown.advance(40, np.array([2.0, 1.0, np.nan]), {"accuracy": np.array([0.5, 0.75, np.nan])})
        shown.advance(50, {"loss": np.array([0.5])}, {"accuracy": np.array([0.6])})
        assert shown.line().startswith("demo: 50%, loss 0.5, best accuracy 0.75, about ")
        assert shown.line().endswith(" left")


def test_lower_metric_is_best_where_lower_is_better():
    with Status("demo", 10, 0, "loss", False) as shown:
        shown.advance(5, np.array([3.0]), {"loss": np.array([2.0, 4.0])})
        assert "best loss 2" in shown.line()


def test_trials_that_all_diverged_have_no_best():
    with Status("demo", 10, 0, "loss", False) as shown:
        shown.advance(5, np.array([np.nan]), {"loss": np.array([np.inf])})
        assert shown.line().startswith("demo: starting, 50%, about")


def test_line_is_told_again_and_again_without_a_terminal(monkeypatch, capsys):
    monkeypatch.setattr(status, "EVERY", 0.01)
    with Status("demo", 10, 0, "loss", False) as shown:
        shown.say("compiling")
        time.sleep(0.2)
    told = capsys.readouterr().err
    assert told.count("demo: compiling, 0%\n") >= 2
    time.sleep(0.05)
    assert capsys.readouterr().err == ""
