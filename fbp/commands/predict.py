"""`fbp predict`: predictions of a model that `fbp fit` made."""

import csv
import io
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from tyro.conf import Positional, arg

from fbp.commands.flags import Json, Overwrite, Quiet, file_in
from fbp.commands.output import print_json
from fbp.errors import InputError

TABLE = "predictions.csv"
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
    out: Annotated[Path | None, arg(metavar="DIR")] = None
    """Write predictions.csv into this directory instead of printing it; a name that ends in .csv
    is that of the file itself."""
    overwrite: Overwrite = False
    json: Json = False
    quiet: Quiet = False

    def __call__(self) -> None:
        """Predict, and write or print the table."""
        path = None if self.out is None else file_in(self.out, TABLE)
        if path is not None and path.exists() and not self.overwrite:
            raise InputError(f"{path}: is there already: give another --out, or --overwrite")
        header, rows, notes = _predictions(self.model, self.data)
        if not self.quiet:
            for note in notes:
                print(f"note: {note}", file=sys.stderr)
        if path is not None:
            _write(path, _csv(header, rows))
        if self.json:
            print_json([dict(zip(header, row, strict=True)) for row in rows])
        elif path is None:
            sys.stdout.write(_csv(header, rows))
        else:
            print(f"predictions: {path}")


def _csv(header: list[str], rows: list[list[Any]]) -> str:
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(header)
    for name, value, *shares in rows:
        writer.writerow([name, value, *(f"{share:.6f}" for share in shares)])
    return table.getvalue()


def _write(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror})") from error


def _predictions(directory: Path, data: Path) -> tuple[list[str], list[list[Any]], list[str]]:
    from fbp.automl import load_fitted
    from fbp.automl.encode import encoding_notes
    from fbp.automl.sources import read_unlabeled
    from fbp.commands.backend import compilation_cache

    fitted = load_fitted(directory)
    model = fitted.model
    examples = read_unlabeled(data, model.encoder, model.target_name)
    classes = [f"probability of {label}" for label in model.classes]
    with compilation_cache():
        predicted = fitted.predict(examples.x).tolist()
        probabilities = fitted.predict_proba(examples.x) if classes else [()] * len(predicted)
    rows = [
        [name, value, *map(float, shares)]
        for name, value, shares in zip(examples.names, predicted, probabilities, strict=True)
    ]
    notes = [*encoding_notes(model.encoder, examples.x)]
    formulas = {str(v) for v in (*predicted, model.target_name) if str(v).startswith(FORMULA)}
    if formulas and model.task == "classification":
        notes.append(
            f"{sorted(formulas)[0]!r} begins like a formula: a spreadsheet may compute it, so "
            "import the predictions as text."
        )
    return ["example", model.target_name, *classes], rows, notes
