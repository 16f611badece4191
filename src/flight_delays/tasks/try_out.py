"""Try a change: fit it as it stands on the raw tables, and compare it with the champion. Nothing is registered."""

import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from rich.console import Console

from flight_delays.core.columns import from_arrow, to_pandas
from flight_delays.core.errors import UserError
from flight_delays.core.feature_set import ENTITY, PREDICTION_TIME
from flight_delays.core.learner import Parameters
from flight_delays.core.settings import Try
from flight_delays.core.splits import Fold, split_at
from flight_delays.core.training import REPEATS, folds_before, refit
from flight_delays.core.tries import Comparison, compare
from flight_delays.core.use_case import KNOWN_AT, LABEL, LABEL_KNOWN_AT, UseCase
from flight_delays.platform.registry import Registry
from flight_delays.tasks.printing import show
from flight_delays.tasks.record import FOLDS_FILE, SEARCH
from flight_delays.views import plots

HISTORY = "tries.jsonl"
_SHOWN = 10  # tries, and features by importance


@dataclass(frozen=True, kw_only=True)
class Kept:
    """How a version was found: its parameters, folds and columns, and the forecasts of its folds."""

    name: str
    number: int
    parameters: Parameters
    folds: tuple[Fold, ...]
    columns: frozenset[str]
    judged: pd.DataFrame


def champion_of(registry: Registry, model_name: str) -> Kept | None:
    """The version that serves; None if none does."""
    number = registry.aliases(model_name).get("champion")
    return None if number is None else kept_of(registry, model_name, number)


def kept_of(registry: Registry, model_name: str, number: int) -> Kept:
    """A version by its number."""
    version = registry.version(model_name, number)
    search = json.loads(registry.kept(version, SEARCH))
    return Kept(
        name=model_name,
        number=number,
        parameters=search["parameters"],
        folds=tuple(Fold(**{name: date.fromisoformat(day) for name, day in fold.items()}) for fold in search["folds"]),
        columns=frozenset(search["columns"]),
        judged=pd.read_parquet(io.BytesIO(registry.kept(version, FOLDS_FILE))),
    )


def run(
    use_case: UseCase,
    settings: Try,
    *,
    read: Callable[[str], pa.Table],
    champion: Kept | None,
    console: Console,
) -> None:
    """Fit on what `read` gives of the raw tables, show how it does, and add it to the history in `folder`.

    Folds and setting are the champion's; with `own_parameters`, or without a champion, those that the search would
    begin with. Pictures go to `folder`.
    """
    console.print("Making features and labels from the raw tables ...")
    objective, folder = use_case.objective, settings.folder
    rows = labelled_now(use_case, read, settings.as_of)
    if champion:
        folds = champion.folds
    elif rows.empty:
        raise UserError(f"no row has a label as of {settings.as_of:%Y-%m-%d}; run the features job with this as_of")
    else:
        folds = folds_before(rows["day"].min(), use_case.holdout(settings.as_of, settings.holdout_days).first)
    rows = split_at(rows[rows["day"] < folds[-1].end], folds[-1].end, use_case.zone).training
    parameters = {name: use_case.learner.parameters[name] for name in use_case.search_space}
    if champion and not settings.own_parameters:
        parameters |= champion.parameters
    told = ", ".join(
        f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}" for name, value in parameters.items()
    )
    console.print(f"Fitting on {len(rows):,} rows, {len(folds)} folds, with {told} ...")
    fitted = refit(use_case, rows, folds, parameters)
    importance = fitted.model.importance()
    new = tuple(name for name in importance if champion and name not in champion.columns)
    found = compare(use_case, rows, fitted.judged, champion.judged) if champion else None
    labels = fitted.judged[LABEL].to_numpy()
    entry = {
        "tried_at": f"{datetime.now(tz=UTC):%Y-%m-%d %H:%M}",
        "note": settings.note,
        "loss": float(np.mean([objective.loss(labels, fitted.judged[name].to_numpy()).mean() for name in REPEATS])),
        "champion": f"version {champion.number}" if champion else "none",
        "difference": str(found.worse_by) if found else "",
        "found": found.in_words if found else "",
        "new": ", ".join(new),
    }
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / HISTORY).open("a", encoding="utf-8") as history:
        history.write(json.dumps(entry) + "\n")
    plots.importance(importance, always=new).savefig(folder / "importance.png")
    if champion and found:
        plots.slices(found.slices, objective.loss_name).savefig(folder / "slices.png")
        console.print(f"Against {champion.name} version {champion.number}: {found.in_words}.", soft_wrap=True)
        _show_comparison(console, objective.loss_name, found)
    total = sum(importance.values()) or 1.0
    ordered = sorted(importance, key=lambda name: -importance[name])
    show(
        console,
        "What the model looks at",
        ("feature", "share (%)", ""),
        [
            (name, 100 * importance[name] / total, "new" if name in new else "")
            for position, name in enumerate(ordered)
            if position < _SHOWN or name in new
        ],
        decimals=2,
    )
    tries = (folder / HISTORY).read_text(encoding="utf-8").splitlines()[-_SHOWN:]
    show(
        console,
        "Tries",
        ("when (UTC)", "note", objective.loss_name, "against", "difference [95 %]", "found", "new features"),
        [tuple(json.loads(line).values()) for line in tries],
        decimals=5,
    )
    console.print(f"Pictures: {folder}", soft_wrap=True)


def labelled_now(use_case: UseCase, read: Callable[[str], pa.Table], as_of: datetime) -> pd.DataFrame:
    """Features with `label` and `label_known_at`, made now from raw rows known by `as_of`, in the order of training."""
    asked = use_case.features
    raw = {name: read(name) for name in {*asked.tables(), asked.table, use_case.labels.table}}
    known = {name: rows.filter(pc.less_equal(rows[KNOWN_AT], as_of)) for name, rows in raw.items()}
    asking = raw[asked.table]
    asking = asking.filter(pc.less_equal(asking[asked.raw(PREDICTION_TIME)], as_of))
    features = to_pandas(asked.build(asking, known))
    labels = pd.DataFrame(use_case.labels.make(from_arrow(known[use_case.labels.table], use_case.labels.columns)))
    labels = labels[labels[LABEL].notna() & (labels[KNOWN_AT] <= as_of.astimezone(UTC).replace(tzinfo=None))]
    labels = labels.rename(columns={KNOWN_AT: LABEL_KNOWN_AT})[[ENTITY, LABEL, LABEL_KNOWN_AT]]
    return features.merge(labels, on=ENTITY).sort_values([PREDICTION_TIME, ENTITY], ignore_index=True)


def _show_comparison(console: Console, loss: str, found: Comparison) -> None:
    show(
        console,
        "On days that neither has seen",
        ("rows", "days", loss, "of the champion", "difference [95 %]"),
        [(found.rows, found.days, found.loss, found.champion_loss, found.worse_by)],
        decimals=5,
    )
    if not found.moved:
        console.print("No slice is shown to have moved.")
        return
    show(
        console,
        "Slices that moved (bounds hold for all slices at once)",
        ("slice", "rows", "days", f"difference in {loss}"),
        [(f"{one.dimension} {one.value}", one.rows, one.days, one.worse_by) for one in found.moved],
    )
