"""Can this version take the champion's place, however well it forecasts? What its callers and its operators rely on."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from flight_delays.core.gates import Check, Outcome
from flight_delays.core.settings import Policy
from flight_delays.core.signature import Signature

GOLDEN_TOLERANCE = 1e-9  # the same file read by the same library answers to the last bits
MODEL_CARD = "model_card.md"
UNCOMMITTED = "+dirty"  # in a version's commit, which version.py names
REQUIRED_TAGS = ("git_commit", "trained_until", "baseline")


@dataclass(frozen=True, kw_only=True)
class Documentation:
    """What is kept of a version.

    `lineage` maps a table to the version of it that was read, `files` its run's; `digest` is of what its answers come
    from, as it was registered.
    """

    description: str
    tags: Mapping[str, str]
    lineage: Mapping[str, int | None]
    files: frozenset[str]
    digest: str | None = None


def schema_compatible(candidate: Signature, champion: Signature | None) -> Check:
    """FAIL unless whoever calls the champion can call the candidate the same way and reads the same answers."""
    if champion is None:
        return _answer("schema_compatible", [], "no version serves yet: nobody has to be answered as before")
    takes, gives = ({column.name: column for column in columns} for columns in (champion.inputs, candidate.outputs))
    trouble = []
    for column in candidate.inputs:
        before = takes.get(column.name)
        if column.required and (before is None or not before.required):
            trouble.append(f"input {column.name} is newly required")
        if before is not None and before.type != column.type:
            trouble.append(f"input {column.name} is {column.type}, was {before.type}")
    for before in champion.outputs:
        after = gives.get(before.name)
        if after is None:
            trouble.append(f"output {before.name} is gone")
        elif after.type != before.type:
            trouble.append(f"output {before.name} is {after.type}, was {before.type}")
    return _answer("schema_compatible", trouble, "every request to the champion is one to this version")


def golden_answers_hold(furthest: float) -> Check:
    """FAIL unless the model, loaded again, answers its golden requests as recorded; `furthest` is off the most."""
    same = furthest <= GOLDEN_TOLERANCE  # never where an answer is missing
    off = [] if same else [f"an answer to a golden request is {furthest:.3g} from the one recorded with the model"]
    recorded = "loaded again, the model answers its golden requests as recorded"
    return _answer("golden_requests", off, recorded, allowed=GOLDEN_TOLERANCE)


def fast_enough(latency_ms: float, policy: Policy) -> Check:
    """FAIL if one request takes longer than the policy allows, in milliseconds."""
    return _within("fast_enough", "one request takes", {"latency_ms": latency_ms}, policy.max_latency_ms, "ms")


def small_enough(size_mb: float, policy: Policy) -> Check:
    """FAIL if the model's files are larger than the policy allows, in megabytes (10^6 bytes)."""
    return _within("small_enough", "the model's files take", {"size_mb": size_mb}, policy.max_size_mb, "MB")


def documented(found: Documentation, policy: Policy) -> Check:
    """FAIL unless the version says what it is, of which code and data it was made, and what it is not good for.

    Uncommitted code is no such code: nobody can look at it or run it again.
    """
    missing = [] if found.description.strip() else ["a description"]
    missing += [f"the tag {tag}" for tag in REQUIRED_TAGS if not found.tags.get(tag)]
    if not found.lineage:
        missing.append("the tables it was trained on")
    missing += [f"the version of {table}" for table, version in found.lineage.items() if version is None]
    if MODEL_CARD not in found.files:
        missing.append(MODEL_CARD)
    trouble = [f"missing: {', '.join(missing)}; register it by the train job"] if missing else []
    if UNCOMMITTED in found.tags.get("git_commit", "") and not policy.allow_uncommitted:
        trouble.append("it was made of uncommitted code; commit it, deploy, and run the train job")
    return _answer("documented", trouble, "description, tags, data lineage and model card are there")


def _within(name: str, what: str, measured: dict[str, float], limit: float, unit: str) -> Check:
    """The reason does not say what was measured, so that the same verdict is told in the same words by any machine."""
    within = all(value <= limit for value in measured.values())  # what is not a number is not within
    trouble = [] if within else [f"{what} more than {limit:g} {unit}"]
    check = _answer(name, trouble, f"{what} at most {limit:g} {unit}", allowed=limit)
    return replace(check, measured=measured)


def _answer(name: str, trouble: list[str], otherwise: str, **evidence: float) -> Check:
    outcome = Outcome.FAIL if trouble else Outcome.PASS
    return Check(name=name, outcome=outcome, reason="; ".join(trouble) or otherwise, evidence=evidence)
