"""`fbp show`."""

import json

import numpy as np
import pytest

from fbp.cli import main


def run(capsys, *argv):
    code = main(["show", *map(str, argv)])
    out, err = capsys.readouterr()
    return code, out, err


@pytest.fixture
def table(tmp_path):
    """A config of a small MLP on a table of the user's."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 3))
    rows = [f"{a:.3f},{b:.3f},{c:.3f},{'yes' if a > b else 'no'}" for a, b, c in x]
    (tmp_path / "own.csv").write_text("\n".join(["one,two,<three>,answer", *rows]))
    config = tmp_path / "own.toml"
    config.write_text(
        'name = "own"\n[data]\n'
        f'name = "{tmp_path}/own.csv"\ntarget = "answer"\n'
        '[network]\nkind = "mlp"\nwidths = [4]\n[optimizer]\nname = "sgd"\n'
        "[train]\nsteps = 40\nbatch_size = 10\nevaluate_every = 10\n"
        "[sweep]\nlearning_rate = [0.1]\nseeds = 1\n"
    )
    return config


def test_xor_is_shown(tmp_path, capsys):
    code, out, _ = run(capsys, "xor", "--out", tmp_path / "page")
    assert code == 0
    assert "xor: 2-4-3-1, learning rate 1, mean loss" in out
    assert f"page: {tmp_path / 'page' / 'index.html'}" in out
    assert "A network learns xor" in (tmp_path / "page" / "index.html").read_text("utf-8")


def test_a_config_is_shown_and_what_it_leaves_out_is_said(table, tmp_path, capsys):
    code, out, err = run(capsys, table, "--out", tmp_path / "page")
    assert (code, err) == (0, "")
    assert "note: plain gradient descent by all training examples" in out
    assert "note: the learning rate" in out
    page = (tmp_path / "page" / "index.html").read_text("utf-8")
    assert "&lt;three&gt; → h1" in page
    assert "<three>" not in page


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["nothing"], "nothing is no lesson: give xor, moons, a TOML file, or the name of one"),
        (["digits_mlp"], "has 18,944 edges, and a page shows at most 60"),
        (
            ["configs/digits_mlp.toml"],
            "has 18,944 edges, and a page shows at most 60: with 64 inputs none can",
        ),
        (["configs/fashion_cnn.toml"], "network.kind is cnn"),
        (["xor", "--rate", "0"], "--rate is 0.0: give a positive number"),
        (["xor", "--rate", "nan"], "--rate is nan: give a positive number"),
        (["xor", "--seed", "-1"], "--seed is -1"),
        (["xor", "--set", "train.steps=3"], "--set goes with a config"),
    ],
)
def test_bad_input_is_refused_in_one_line(argv, message, tmp_path, capsys):
    code, out, err = run(capsys, *argv, "--out", tmp_path / "page")
    assert (code, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1
    assert not (tmp_path / "page").exists()


def test_a_page_is_replaced_only_when_asked(tmp_path, capsys):
    page = tmp_path / "index.html"
    page.write_text("mine")
    code, _, err = run(capsys, "xor", "--out", tmp_path)
    assert code == 2
    assert "give --overwrite" in err
    assert page.read_text() == "mine"
    assert run(capsys, "xor", "--out", tmp_path, "--overwrite")[0] == 0


def test_a_rate_that_is_too_large_is_shown_flying_off(tmp_path, capsys, table):
    words = [table, "--rate", "1e30", "--out", tmp_path / "page", "--json"]
    code, out, err = run(capsys, *words)
    assert code == 0
    assert "warning: the loss is not finite from step" in err
    assert json.loads(out)["diverged_at"] is not None
