"""What a sweep recorded of its layers: of the best setting, and of one that diverged."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fbp.recording import Recording, median_recording, recordings
from fbp.report.measures import measures_of
from fbp.report.run_directory import RecordedRun
from fbp.report.suspects import suspects
from fbp.report.text import setting_label
from fbp.report.trials import TrialHistory, setting_of, trials

MEANING = (
    "what the last step before each measurement did to each layer. What is not finite, or 0 on a "
    "logarithmic scale, is left white."
)


@dataclass(frozen=True)
class RecordedSetting:
    """The recording of a setting, the median over its trials.

    Attributes:
      name: of its picture.
      caption: which setting it is, in a sentence.
      recording: the median.
    """

    name: str
    caption: str
    recording: Recording

    @property
    def remarks(self) -> list[str]:
        """Which layers go wrong, in words, the earliest first."""
        named = [str(suspect) for suspect in suspects(self.recording)]
        broken = self.recording.first_nonfinite
        if named or broken is None:
            return named
        return [f"step {broken[0]}: {broken[1]}: its gradient is not finite"]


def recorded_settings(run: RecordedRun) -> list[RecordedSetting]:
    """Return the recordings of the best setting, and of the lowest rate at which trials diverged.

    They are of the best one's trials that did not diverge, and of the other one's that did. Empty
    where nothing was recorded.
    """
    by_trial = recordings(run.records)
    if not by_trial:
        return []
    histories = trials(run.records, measures_of(run.summary).columns)
    best, lost = run.summary["best"], _lowest_diverged(run.summary)
    shown = []
    for name, outcome, entry, counted in (
        ("layers_of_best", "the best", best, [h for h in histories if h.survived]),
        ("layers_of_diverged", "trials that diverged", lost, [h for h in histories if h.diverged]),
    ):
        of_setting = [] if entry is None else _of(entry, counted)
        alike = [by_trial[h.number] for h in of_setting if h.number in by_trial]
        if entry is not None and alike:
            count = f", median over {len(alike)} seeds" if len(alike) > 1 else ""
            text = f"Learning rate {setting_label(entry)}, {outcome}{count}: {MEANING}"
            shown.append(RecordedSetting(name, text, median_recording(alike)))
    return shown


def _of(entry: Mapping[str, Any], histories: list[TrialHistory]) -> list[TrialHistory]:
    return [history for history in histories if history.setting == setting_of(entry)]


def _lowest_diverged(summary: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the entry of the lowest rate that diverged, in which one sees how it came to that."""
    lost = [entry for entry in summary["rates"] if entry["diverged"]]
    return min(lost, key=lambda entry: entry["learning_rate"], default=None)
