"""`fbp predict`: predictions of a model that `fbp fit` made."""

import csv
import io
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import FlagCreatePairsOff, Positional, arg

from fbp.errors import InputError

FORMULA = ("=", "+", "-", "@", "\t")  # what spreadsheets take for one


@dataclass(frozen=True)
class PredictCommand:
    """Predict with a model that `fbp fit` wrote.

    The predictions are a table in CSV: each row's number or file, the prediction, and for classes
    the probability of each.
    """

    model: Annotated[Positional[Path], arg(metavar="DIR")]
    """Directory that `fbp fit` wrote."""
    data: Annotated[Positional[Path], arg(metavar="DATA")]
    """Examples like those of the fit; a target column is passed over."""
    out: Annotated[Path | None, arg(metavar="FILE")] = None
    """Write the predictions to this file instead of printing them."""
    overwrite: FlagCreatePairsOff[bool] = False
    """Replace the file."""

    def __call__(self) -> None:
        """Predict, and write or print the table."""
        if self.out is not None and self.out.exists() and not self.overwrite:
            raise InputError(f"{self.out}: is there already: give another --out, or --overwrite")
        text, notes = _predictions(self.model, self.data)
        for note in notes:
            print(f"note: {note}", file=sys.stderr)
        if self.out is None:
            sys.stdout.write(text)
            return
        try:
            self.out.write_text(text, encoding="utf-8")
        except OSError as error:
            raise InputError(f"{self.out}: cannot be written ({error.strerror})") from error
        print(f"predictions: {self.out}")


def _predictions(directory: Path, data: Path) -> tuple[str, list[str]]:
    from fbp.commands.backend import compilation_cache
    from fbp.fit import load_fitted
    from fbp.fit.encode import encoding_notes
    from fbp.fit.sources import read_unlabeled

    fitted = load_fitted(directory)
    model = fitted.model
    examples = read_unlabeled(data, model.encoder, model.target_name)
    classes = [f"probability of {label}" for label in model.classes]
    with compilation_cache():
        predicted = fitted.predict(examples.x).tolist()
        probabilities = fitted.predict_proba(examples.x) if classes else [()] * len(predicted)
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(["example", model.target_name, *classes])
    for name, value, shares in zip(examples.names, predicted, probabilities, strict=True):
        writer.writerow([name, value, *(f"{share:.6f}" for share in shares)])
    notes = [*encoding_notes(model.encoder, examples.x)]
    formulas = {str(v) for v in (*predicted, model.target_name) if str(v).startswith(FORMULA)}
    if formulas and model.task == "classification":
        notes.append(
            f"{sorted(formulas)[0]!r} begins like a formula: a spreadsheet may compute it, so "
            "import the predictions as text."
        )
    return table.getvalue(), notes
