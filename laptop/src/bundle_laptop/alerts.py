"""Alerts (v2) of a bundle: what one may say, and what its query's result makes of it.

As documented (https://docs.databricks.com/sql/user/alerts, https://docs.databricks.com/jobs/tasks/alert), an
aggregation is a query around the alert's own, so its result is never empty; without one the first row counts. The
state ERROR is a failed evaluation, and fails the task; any other state does not.

What Databricks does not say is refused, or is as follows: null fulfils no comparison but IS_NULL.
"""

import operator
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, model_validator

from bundle_laptop.calls import TaskError
from bundle_laptop.model import Part, Subscriber, Text

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

KEYS_WITHOUT_EFFECT = (
    *("custom_description", "custom_summary", "display_name", "lifecycle", "parent_path", "permissions"),
    *("run_as", "run_as_user_name", "schedule", "warehouse_id"),
)
_ORDER: Mapping[str, tuple[str, Callable[[Any, Any], bool]]] = {
    "LESS_THAN": ("<", operator.lt),
    "LESS_THAN_OR_EQUAL": ("<=", operator.le),
    "GREATER_THAN": (">", operator.gt),
    "GREATER_THAN_OR_EQUAL": (">=", operator.ge),
    "EQUAL": ("=", operator.eq),
    "NOT_EQUAL": ("!=", operator.ne),
}
_NULL = {"IS_NULL": "is null", "IS_NOT_NULL": "is not null"}


class AlertState(StrEnum):
    """What an evaluation ends with."""

    OK = "OK"
    TRIGGERED = "TRIGGERED"
    UNKNOWN = "UNKNOWN"
    ERROR = "ERROR"


class Source(Part):
    """The column that counts. It has no `display`: under a name of that kind a workspace doesn't find the column."""

    name: Text
    aggregation: Literal["SUM", "COUNT", "COUNT_DISTINCT", "AVG", "MEDIAN", "MIN", "MAX", "STDDEV"] | None = None


class Value(Part):
    """What the column is compared with; exactly one is set."""

    double_value: float | None = None
    string_value: Text | None = None
    bool_value: bool | None = None

    @model_validator(mode="after")
    def _one(self) -> "Value":
        if len(self._given) != 1:
            raise ValueError(f"needs one of {', '.join(type(self).model_fields)}")
        return self

    @property
    def _given(self) -> list[float | str | bool]:
        return [one for one in (self.double_value, self.string_value, self.bool_value) if one is not None]

    @property
    def limit(self) -> float | str | bool:
        """The one that is set."""
        return self._given[0]


class Threshold(Part):
    """A value; another column is not supported."""

    value: Value


class Notification(Part):
    """Whom to tell. Nobody is told here, so when and how often has no effect."""

    subscriptions: tuple[Subscriber, ...] = ()
    notify_on_ok: bool = False
    retrigger_seconds: int = 0


class Evaluation(Part):
    """When the alert is triggered."""

    source: Source
    comparison_operator: Literal[
        "LESS_THAN",
        "LESS_THAN_OR_EQUAL",
        "GREATER_THAN",
        "GREATER_THAN_OR_EQUAL",
        "EQUAL",
        "NOT_EQUAL",
        "IS_NULL",
        "IS_NOT_NULL",
    ]
    threshold: Threshold | None = None
    empty_result_state: AlertState
    notification: Notification = Notification()

    @model_validator(mode="after")
    def _complete(self) -> "Evaluation":
        if (self.threshold is None) != (self.comparison_operator in _NULL):
            needs = "takes no threshold" if self.threshold else "needs a threshold"
            raise ValueError(f"{self.comparison_operator} {needs}")
        return self

    def state(self, rows: Sequence[Mapping[str, object]]) -> tuple[AlertState, str]:
        """Of a result, and why unless it is OK. Raises TaskError for a column that can't be compared."""
        if not rows:
            return self.empty_result_state, "no rows"
        name, op = self.source.name, self.comparison_operator
        if name not in rows[0]:
            raise TaskError(f"the query has no column {name}; it has: {', '.join(rows[0])}", by_user=True)
        value = rows[0][name]
        if self.threshold is None:
            met, why = (value is None) is (op == "IS_NULL"), f"{name} {_NULL[op]}"
        else:
            limit, (sign, holds) = self.threshold.value.limit, _ORDER[op]
            met = value is not None and holds(_like(limit, value, name), limit)
            why = f"{_text(value)} {sign} {_text(limit)}"
        return (AlertState.TRIGGERED, why) if met else (AlertState.OK, "")


class Alert(Part):
    """An alert of the bundle, its references resolved."""

    query_text: Text = Field(min_length=1)
    evaluation: Evaluation

    @property
    def query(self) -> str:
        """What is run."""
        source = self.evaluation.source
        if source.aggregation is None:
            return self.query_text
        column = f"`{source.name.replace('`', '``')}`"
        distinct = source.aggregation == "COUNT_DISTINCT"
        found = f"COUNT(DISTINCT {column})" if distinct else f"{source.aggregation}({column})"
        return f"WITH q AS (\n{self.query_text}\n) SELECT {found} AS {column} FROM q"

    def evaluated(self, spark: "SparkSession") -> tuple[AlertState, str]:
        """Its state, and why. Raises TaskError if its query fails."""
        try:
            rows = [row.asDict() for row in spark.sql(self.query).take(1)]
        except Exception as error:
            raise TaskError(f"query_text: {error}".splitlines()[0]) from None
        return self.evaluation.state(rows)


def _like(limit: object, value: object, name: str) -> object:
    """The column's value, of the limit's type."""
    if isinstance(limit, float) and isinstance(value, int | float | Decimal) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, type(limit)):
        return value
    raise TaskError(f"{name} is {value!r}, which can't be compared with {limit!r}", by_user=True)


def _text(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
