"""Why did this prediction say that? What it was made from, why its version served, and whether it comes out again."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import groupby

from rich.console import Console

from flight_delays.core.explanation import Explanation, Fact, Gone, explain
from flight_delays.core.gates import Outcome as Verdict
from flight_delays.core.prediction import Recorded
from flight_delays.core.scoring import SERVING
from flight_delays.core.settings import Explain
from flight_delays.core.use_case import UseCase
from flight_delays.platform.context import Adapters
from flight_delays.platform.decision_log import PROMOTION, Decision
from flight_delays.platform.explained import Read, Run, read
from flight_delays.platform.rollout_log import Release
from flight_delays.tasks.printing import show
from flight_delays.views import ask

_SHORT = 3  # answers that are named


def run(adapters: Adapters, settings: Explain) -> bool:
    """Print it; whether features and forecast, recomputed, are the same as stored."""
    raw = adapters.tables.of(settings.raw_schema)
    found = read(adapters, settings.prediction_id, raw=raw, payload_table=settings.payload_table)
    return show_explanation(adapters.console, adapters.use_case, found, rows=settings.rows)


def show_explanation(console: Console, use_case: UseCase, found: Read, *, rows: int) -> bool:
    """The same of what was read; of raw rows that were counted together `rows` are shown."""
    explained, prediction = explain(use_case, found.evidence), found.evidence.prediction
    console.print(ask.precomputed(use_case, prediction))
    show(console, "Where it comes from", ("", ""), [*_origin(prediction, found), *_release(found.release)])
    if explained.facts:
        _say(console, ["What was known, in UTC:", *(f"  {line}" for line in _facts(explained.facts, rows))])
    show(console, "What the model takes", ("column", "stored", "recomputed"), _values(explained))
    _say(console, _checks(explained))
    return explained.is_same


def _say(console: Console, lines: Iterable[str]) -> None:
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _origin(prediction: Recorded, found: Read) -> Iterator[tuple[str, str]]:
    chance = "" if prediction.probability is None else f"probability {prediction.probability!r}, "
    yield "forecast", f"{chance}prediction {prediction.prediction!r} ({prediction.prediction_id})"
    yield "version", f"{prediction.model_version} of {prediction.model_name}"
    documentation = found.documentation
    if isinstance(documentation, Gone):
        yield "its training", f"GONE: {documentation.why}"
    else:
        yield "its code", f"commit {documentation.tags.get('git_commit', 'not recorded')}"
        yield "its files", f"digest {documentation.digest or 'not recorded'}"
        read = ", ".join(f"{table} at version {version}" for table, version in documentation.lineage.items())
        until = documentation.tags.get("trained_until", "not recorded")
        yield "trained on", f"{read or 'not recorded'}; days before {until}"
    match found.run:
        case Run(tables=tables):
            read = ", ".join(f"{table} at version {of.version}" for table, of in tables.items())
            yield "scored from", f"{read} (run {prediction.run_id})"
        case Gone(why=why):
            yield "scored from", f"GONE: {why}"
        case None:
            yield "scored from", "a request" if prediction.source == SERVING else "not recorded"


def _release(found: Release) -> Iterator[tuple[str, str]]:
    verdict, release = found.verdict, found.release
    if verdict is not None:
        passed = [line for line in verdict.reasons if line.startswith(Verdict.PASS)]
        others = [line for line in verdict.reasons if line not in passed]
        yield "verdict", f"{verdict.outcome} as of {_text(verdict.as_of)}, {len(passed)} checks PASS"
        yield "", f"decision {verdict.decision_id}"
        yield from (("", line) for line in others)
    for step in found.steps:
        share = json.loads(step.evidence)["percentage"]
        yield "rollout", f"{step.outcome}, {share} %, {_recorded(step)}: {'; '.join(step.reasons)}"
    if release is not None:
        instead = f", in place of version {release.other_version}" if release.other_version else ""
        yield "serves by", f"{release.kind} as of {_text(release.as_of)}, {_recorded(release)}{instead}"
        yield "decided by", _decided_by(release, verdict)
    if release is None and not found.steps:
        yield "serves by", "no decision: its alias was set past the jobs"


def _decided_by(release: Decision, verdict: Decision | None) -> str:
    why = "; ".join(release.reasons)
    if release.kind == PROMOTION and verdict is not None:
        return f"the gate: {why}"
    return f"a person's order: {why} (decisions does not record whose; the job's run does)"


def _recorded(decision: Decision) -> str:
    return f"recorded {_text(decision.recorded_at) if decision.recorded_at else 'at an unknown time'}"


def _facts(facts: Sequence[Fact], most: int) -> Iterator[str]:
    """Of rows that were counted together the `most` newest."""
    for (answers, table), those in groupby(facts, key=lambda one: (one.answers, one.table)):
        rows = sorted(those, key=lambda one: one.known_at, reverse=True)
        named = ", ".join([*answers[:_SHORT], *([f"{len(answers) - _SHORT} more"] if len(answers) > _SHORT else [])])
        since = f", known from {_text(rows[-1].known_at)} on" if len(rows) > 1 else ""
        yield f"{named}: {len(rows):,} of {table}{since}"
        for one in rows[:most]:
            of = "" if one.event_time == one.known_at else f", of {_text(one.event_time)}"
            says = f": {said}" if (said := _pairs(one.values, one)) else ""
            corrected = f"; CORRECTED, known at {_text(one.corrected_at)}" if one.corrected_at else ""
            yield f"  {_pairs(one.key, one)}{of}, known at {_text(one.known_at)}{says}{corrected}"
        if len(rows) > most:
            yield f"  and {len(rows) - most:,} more"


def _pairs(values: Mapping[str, object], fact: Fact) -> str:
    """Without the fact's own times, which stand beside."""
    told = {name: value for name, value in values.items() if value not in (fact.event_time, fact.known_at)}
    return ", ".join(f"{name} {_text(value)}" for name, value in told.items())


def _text(value: object) -> str:
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M:%S}"
    return "null" if value is None else str(value)


def _values(explained: Explanation) -> Iterator[tuple[str, str, str]]:
    """Where nothing is stored, as of a stream, or nothing recomputed, that is no null."""
    stored, recomputed = ([getattr(one, side) for one in explained.values] for side in ("stored", "recomputed"))
    for one in explained.values:
        yield (
            one.name,
            _text(one.stored) if any(value is not None for value in stored) else "",
            _text(one.recomputed) if any(value is not None for value in recomputed) else "",
        )


def _checks(explained: Explanation) -> Iterator[str]:
    """What is gone, and what each comparison found."""
    yield from (f"GONE: {one.what}: {one.why}" for one in explained.gone)
    for check in explained.checks:
        yield f"{check.what}: {check.outcome}"
        yield from (f"  {line}" for line in check.lines)
