import pytest

from fbp.config import Halving, Sweep, Train
from fbp.sweep.segments import rungs_of, segments_of, trial_steps

TRAIN = Train(steps=27, batch_size=8, evaluate_every=2)


def halving(eta=3, seeds=1):
    return Sweep((0.1,), seeds, search=Halving(eta=eta))


def test_a_grid_is_one_rung_in_which_nothing_is_dropped():
    segments = segments_of(Sweep((0.1,), 1), TRAIN, variants=2, settings=4)
    assert [s.variant for s in segments] == [0] * 14 + [1] * 14
    assert [(s.start, s.stop) for s in segments[:14]] == [
        *((step, step + 2) for step in range(0, 26, 2)),
        (26, 27),
    ]
    assert all(s.keep is None for s in segments)


@pytest.mark.parametrize("settings", [1, 2, 9, 26, 27, 28, 81])
@pytest.mark.parametrize("eta", [2, 3, 4])
def test_halving_ends_with_all_steps_of_fewer_than_eta_settings(settings, eta):
    rungs = rungs_of(halving(eta), TRAIN, settings)
    *before, last = rungs
    assert last == 27
    assert rungs[27] is None
    assert all(end % 2 == 0 for end in before)
    remaining = [rungs[end] for end in before]
    assert remaining == sorted(remaining, reverse=True)
    if remaining and before[-1] < 26:
        assert 1 <= remaining[-1] < eta


def test_rungs_that_fall_together_drop_once():
    assert rungs_of(halving(), Train(27, 8, 20), 27) == {20: 1, 27: None}
    assert rungs_of(halving(), Train(27, 8, 27), 27) == {27: None}


def test_all_variants_end_a_rung_before_any_setting_is_dropped():
    segments = segments_of(halving(), Train(9, 8, 3), variants=2, settings=6)
    assert [(s.variant, s.start, s.stop, s.keep) for s in segments] == [
        (0, 0, 3, None),
        (1, 0, 3, 2),
        (0, 3, 6, None),
        (0, 6, 9, None),
        (1, 3, 6, None),
        (1, 6, 9, None),
    ]


@pytest.mark.parametrize("seeds", [1, 3])
def test_trial_steps_are_counted(seeds):
    assert trial_steps(Sweep((0.1,), seeds), TRAIN, 4) == 4 * 27 * seeds
    rungs = (10 * 9 + 20 * 3 + 60 * 1) * seeds
    assert trial_steps(halving(seeds=seeds), Train(90, 8, 10), 9) == rungs
