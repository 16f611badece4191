"""A page by Evidently: how the newest days' features differ from those before. It decides nothing."""

import os
from collections.abc import Sequence
from datetime import date, timedelta
from importlib.util import find_spec
from typing import TYPE_CHECKING

import pandas as pd
from pyspark.sql import functions as F

from flight_delays.core.columns import to_pandas
from flight_delays.core.errors import UserError
from flight_delays.core.feature_set import DAY, KEY
from flight_delays.core.settings import DriftPage
from flight_delays.core.training import columns_of
from flight_delays.core.use_case import UseCase
from flight_delays.platform.context import Context
from flight_delays.platform.outcomes import features_known

if TYPE_CHECKING:
    from evidently import Dataset


def check() -> None:
    """Raises UserError where Evidently is not installed."""
    if find_spec("evidently") is None:
        raise UserError("Evidently is not installed; install flight-delays[evidently]")


def run(context: Context, settings: DriftPage) -> None:
    """Write the page to `file`, from at most `rows` rows of each of both periods.

    Raises UserError if one of them has none.
    """
    end = context.use_case.holdout(context.as_of, 1).end
    begin = end - timedelta(days=settings.days)
    now = _rows(context, begin, end, settings.rows)
    before = _rows(context, begin - timedelta(days=settings.reference_days), begin, settings.rows)
    if empty := empty_columns(before, now):
        context.console.print(f"Not on the page, as one of the periods has no value: {', '.join(empty)}")
    settings.file.parent.mkdir(parents=True, exist_ok=True)
    settings.file.write_text(
        page(context.use_case, before.drop(columns=empty), now.drop(columns=empty)), encoding="utf-8"
    )
    context.console.print(
        f"{len(now):,} rows from {begin} on, beside {len(before):,} of the {settings.reference_days} days before"
    )


def page(use_case: UseCase, before: pd.DataFrame, now: pd.DataFrame) -> str:
    """The page, of rows with columns that a model takes, each with a value in both periods."""
    sets = data_sets(use_case, before, now)
    from evidently import Report
    from evidently.presets import DataDriftPreset, DataSummaryPreset

    text: str = Report([DataDriftPreset(), DataSummaryPreset()]).run(*sets).get_html_str(as_iframe=False)
    return text


def empty_columns(before: pd.DataFrame, now: pd.DataFrame) -> list[str]:
    """Those without a value in one of the periods, on which Evidently fails."""
    return [str(name) for name in now if now[name].isna().all() or before[name].isna().all()]


def data_sets(use_case: UseCase, before: pd.DataFrame, now: pd.DataFrame) -> "list[Dataset]":
    """Both periods as Evidently takes them, the newer one first; it is told to report its use to nobody."""
    os.environ.update(DO_NOT_TRACK="1")  # read when it is imported
    from evidently import DataDefinition, Dataset

    definition = DataDefinition(
        numerical_columns=[*now.columns.intersection(_named(use_case, ("double", "float", "long", "integer")))],
        categorical_columns=[*now.columns.intersection(_named(use_case, ("string", "boolean")))],
    )
    return [Dataset.from_pandas(rows, data_definition=definition) for rows in (now, before)]


def _named(use_case: UseCase, types: Sequence[str]) -> list[str]:
    return [column.name for column in use_case.signature.inputs if column.type in types]


def _rows(context: Context, first: date, end: date, limit: int) -> pd.DataFrame:
    """What a model takes of days from `first` to before `end`; of more than `limit` rows the same sample each time."""
    within = (F.col(DAY) >= F.lit(first)) & (F.col(DAY) < F.lit(end))
    sample = features_known(context.tables, context.as_of).where(within).orderBy(F.xxhash64(*KEY)).limit(limit)
    rows = to_pandas(sample.toArrow())
    if rows.empty:
        raise UserError(
            f"features has no rows from {first} to before {end}; run the features job, or set another as_of"
        )
    return pd.DataFrame(columns_of(context.use_case, rows))
