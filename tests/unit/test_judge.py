"""A verdict that could not be reached, and the report of one that was. No Spark: no table is read."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from datetime import UTC, date, datetime

import mlflow
import pytest
from tests.contexts import POLICY, MemoryDecisions, make_context

from flight_delays.core.bootstrap import Interval
from flight_delays.core.errors import UserError
from flight_delays.core.gates import Check, Outcome, Slice, SliceOutcome, verdict
from flight_delays.core.objective import Regression
from flight_delays.core.settings import Judge
from flight_delays.core.splits import Holdout
from flight_delays.platform.context import Context
from flight_delays.platform.dataset import Dataset
from flight_delays.platform.registry import Registry, Version
from flight_delays.tasks import judge
from flight_delays.use_case import USE_CASE


@dataclass(frozen=True)
class Unreadable:
    """Labelled rows that cannot be read."""

    trouble: Exception

    def read(self, *, as_of: datetime, first: date | None, end: date) -> Dataset:  # noqa: ARG002
        raise self.trouble


def context_of(registry: Registry, trouble: Exception) -> Context:
    return make_context(
        as_of=datetime(2013, 2, 21, tzinfo=UTC),
        registry=registry,
        labelled=Unreadable(trouble),
        decisions=MemoryDecisions(),
    )


def judged(context: Context, name: str, number: int) -> None:
    judge.run(context, Judge(model_name=name, model_version=number, holdout_days=14, policy=POLICY))


@pytest.mark.parametrize(
    "trouble", [RuntimeError("the disk\n  is full"), UserError("table x does not exist; run the features job first")]
)
def test_whatever_went_wrong_is_an_inconclusive_verdict_that_is_written_before_it_is_raised(
    registry: Registry, new_version: Callable[..., int], trouble: Exception
) -> None:
    name = f"unreadable {type(trouble).__name__}"
    number = new_version(name)
    registry.set_alias(name, "challenger", number)
    context = context_of(registry, trouble)
    with pytest.raises(type(trouble)) as raised:
        judged(context, name, number)
    assert raised.value is trouble

    (row,) = context.decisions.rows
    says = f"judged_without_error: {type(trouble).__name__}: {' '.join(str(trouble).split())}"
    assert (row.kind, row.outcome) == ("verdict", "INCONCLUSIVE")
    assert (row.model_name, row.model_version, row.other_version) == (name, number, None)
    assert json.loads(row.policy) == asdict(POLICY)
    assert [line.startswith(f"INCONCLUSIVE {says}") for line in row.reasons] == [True]
    rests_on = json.loads(row.evidence)
    assert (rests_on["holdout_first"], rests_on["holdout_end"]) == ("2013-02-06", "2013-02-20")
    assert rests_on["holdout_digest"] is None
    assert [check["name"] for check in rests_on["checks"]] == ["judged_without_error"]
    decision_id = row.decision_id
    assert context.task_values == {"verdict": "INCONCLUSIVE", "verdict_id": decision_id}
    version = registry.version(name, number)
    assert (version.tags["verdict"], version.tags["decision_id"]) == ("INCONCLUSIVE", decision_id)
    report = mlflow.artifacts.load_text(f"runs:/{version.run_id}/verdict.md")
    assert report.startswith(f"# INCONCLUSIVE: {name} version {number}\n\nno champion yet, on 14 days from 2013-02-06")
    assert says.replace("judged_without_error: ", "| judged_without_error | INCONCLUSIVE | ") in report
    assert registry.aliases(name) == {}


def test_a_version_without_the_day_it_was_trained_until_is_inconclusive(
    registry: Registry, new_version: Callable[..., int]
) -> None:
    name = "of unknown age"
    number = new_version(name)
    registry.client.delete_model_version_tag(name, str(number), "trained_until")
    context = context_of(registry, AssertionError("not to be read"))
    with pytest.raises(UserError, match="lacks the tag trained_until; register it by the train job"):
        judged(context, name, number)
    assert [row.outcome for row in context.decisions.rows] == ["INCONCLUSIVE"]


def test_a_version_that_does_not_exist_gets_no_verdict(registry: Registry, new_version: Callable[..., int]) -> None:
    new_version("short")
    context = context_of(registry, AssertionError("not to be read"))
    with pytest.raises(UserError, match="model short has no version 7"):
        judged(context, "short", 7)
    assert context.decisions.rows == []


def test_the_report_reads_from_the_headline_to_the_slices() -> None:
    slices = [
        Slice(dimension="origin", value=value, rows=rows, days=14, outcome=outcome, worse_by=bounds)
        for value, rows, outcome, bounds in (
            ("EWR", 4_500, SliceOutcome.HARMED, Interval(low=0.021, estimate=0.04, high=0.06)),
            ("LGA", 12, SliceOutcome.NOT_MEASURED, None),
        )
    ]
    checks = [Check(name="no_slice_harmed", outcome=Outcome.FAIL, reason="harm | in EWR")]
    candidate, champion = (Version(name="delay", number=number, run_id="r", tags={}) for number in (7, 6))
    found = judge.Judged(
        verdict=verdict(checks, slices),
        holdout=Holdout(first=date(2013, 10, 1), end=date(2013, 10, 15)),
        digest="0a1b",
    )
    text = judge.report(USE_CASE, candidate, champion, found)
    assert text.startswith("# FAIL: delay version 7\n\nagainst champion version 6, on 14 days from 2013-10-01")
    assert "| no_slice_harmed | FAIL | harm / in EWR |" in text
    assert "How much higher the log loss is than that of version 6" in text
    assert "| origin EWR | 4,500 | 14 | 0.0400 [0.0210, 0.0600] | harmed |\n| origin LGA | 12 | 14 |  | not" in text
    assert "`0a1b`" in text
    assert "that of the training period's base rate" in judge.report(USE_CASE, candidate, None, found)


def test_a_report_on_a_regression_speaks_of_its_own_loss_and_baseline() -> None:
    use_case = replace(USE_CASE, objective=Regression(unit="minutes", scale=30.0))
    too_few = Check(name="enough_days", outcome=Outcome.INCONCLUSIVE, reason="3 unseen days")
    slices = [Slice(dimension="origin", value="LGA", rows=12, days=3, outcome=SliceOutcome.NOT_MEASURED, worse_by=None)]
    found = judge.Judged(
        verdict=verdict([too_few], slices), holdout=Holdout(first=date(2013, 10, 1), end=date(2013, 10, 4))
    )
    text = judge.report(use_case, Version(name="delay", number=7, run_id="r", tags={}), None, found)
    assert "How much higher the squared error is than that of the training period's mean" in text
    assert "SHA-256" not in text
