"""What a change does to the model: a version against the champion, for whoever reviews the change."""

from collections.abc import Callable

import pyarrow as pa

from flight_delays.core.errors import UserError
from flight_delays.core.model_diff import Diff, Golden
from flight_delays.core.settings import ModelDiff
from flight_delays.core.tries import compare
from flight_delays.core.use_case import UseCase
from flight_delays.platform.registry import Registry, predict, read_golden_requests
from flight_delays.tasks.try_out import champion_of, kept_of, labelled_now


def run(use_case: UseCase, settings: ModelDiff, *, read: Callable[[str], pa.Table], registry: Registry) -> Diff:
    """Compare what both versions' folds forecast, and what both answer to the champion's golden requests.

    Raises UserError if no version serves.
    """
    name = settings.model_name
    champion = champion_of(registry, name)
    if champion is None:
        raise UserError(f"no version of {name} serves yet: there is nothing to compare with; run the train job")
    number = settings.model_version or registry.newest(name)
    own = kept_of(registry, name, number)
    found = None
    if number != champion.number:
        found = compare(use_case, labelled_now(use_case, read, settings.as_of), own.judged, champion.judged)
    return Diff(
        name=name,
        version=number,
        champion=champion.number,
        commit=registry.version(name, number).tags.get("git_commit", "unknown"),
        new_columns=tuple(sorted(own.columns - champion.columns)),
        lost_columns=tuple(sorted(champion.columns - own.columns)),
        found=found,
        golden=_golden(registry, use_case, name, number, champion.number),
    )


def _golden(registry: Registry, use_case: UseCase, name: str, version: int, champion: int) -> Golden:
    of_champion = registry.load(name, champion)
    requests = read_golden_requests(of_champion)
    forecast = use_case.objective.forecast
    try:
        answers = predict(registry.load(name, version), requests)[forecast]
    except Exception as error:  # whatever a model raises on what it was not made for
        return Golden(requests=len(requests), failed=f"{type(error).__name__}: {' '.join(str(error).split())[:300]}")
    apart = (answers - predict(of_champion, requests)[forecast]).abs()
    return Golden(
        requests=len(requests),
        differ=int((apart > 0).sum()),
        mean=float(apart.mean()),
        furthest=float(apart.max()),
    )
