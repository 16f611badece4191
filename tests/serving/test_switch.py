"""Which version answers, while the endpoint's configuration changes and while versions share the traffic."""

import asyncio
import random
from bisect import bisect_left, bisect_right
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import Event
from time import monotonic_ns

import pytest
import requests
from scipy.stats import binom
from tests.serving.live import JSON, PATIENCE_S, VERSIONS, Live, entity, live
from tests.unit.test_scoring_request import ROW, records

from flight_delays.serving.service import LoadedModel

BODY = records(ROW | {"weather_visib": 0.5})
CALLERS = 4
SWITCHES = 50


@dataclass(frozen=True, kw_only=True)
class Answer:
    began: int
    ended: int
    status: int
    name: str
    probability: float


def ask(session: requests.Session, running: Live) -> Answer:
    began = monotonic_ns()
    response = session.post(running.url + "/invocations", data=BODY, headers=JSON, timeout=PATIENCE_S)
    ended = monotonic_ns()
    (row,) = response.json().get("predictions", [{}])
    name = response.headers.get("served-model-name", "")
    return Answer(
        began=began, ended=ended, status=response.status_code, name=name, probability=row.get("probability", -1)
    )


def probabilities(loaded_models: dict[str, LoadedModel]) -> dict[str, float]:
    """What each version answers, which tells them apart."""
    found = {}
    for name, loaded in loaded_models.items():
        (row,), _ = asyncio.run(loaded.answer(loaded.parser.parse(BODY)))
        found[name] = row["probability"]
    assert len(set(found.values())) == len(VERSIONS)
    return found


def test_each_answer_is_of_a_version_that_was_configured_while_it_was_asked_for(
    loaded_models: dict[str, LoadedModel],
) -> None:
    entities = {name: entity(name, loaded) for name, loaded in loaded_models.items()}
    known, enough = probabilities(loaded_models), Event()
    began = [monotonic_ns()]  # of switch n, to the name at n
    names = ["champion"]
    done = [monotonic_ns()]

    with live(entities["champion"]) as running:

        def keep_asking() -> list[Answer]:
            with requests.Session() as session:
                found = []
                while not enough.is_set():
                    found.append(ask(session, running))
                return found

        with ThreadPoolExecutor(CALLERS) as callers, requests.Session() as between:
            asked = [callers.submit(keep_asking) for _ in range(CALLERS)]
            try:
                for number in range(1, SWITCHES + 1):
                    names.append("challenger" if number % 2 else "champion")
                    began.append(monotonic_ns())
                    running.service.configure([entities[names[-1]]])
                    done.append(monotonic_ns())
                    # An answer of each configuration, asked for when no other was there any more.
                    assert ask(between, running).name == names[-1]
            finally:
                enough.set()
            answers = [answer for each in asked for answer in each.result()]

    assert len(answers) > 2 * SWITCHES
    assert {answer.status for answer in answers} == {200}
    assert {answer.name for answer in answers} == set(VERSIONS)
    for answer in answers:
        # From the last switch that was over when it was asked for, to the last that had begun when it was answered.
        possible = names[bisect_right(done, answer.began) - 1 : bisect_left(began, answer.ended)]
        assert answer.name in possible
        assert answer.probability == known[answer.name]


@pytest.mark.parametrize("share", [0, 30, 100])
def test_versions_share_the_traffic_as_they_are_configured(loaded_models: dict[str, LoadedModel], share: int) -> None:
    count = 600
    both = (
        entity("champion", loaded_models["champion"], 100 - share),
        entity("challenger", loaded_models["challenger"], share),
    )
    known = probabilities(loaded_models)
    with live(*both, draw=random.Random(7).random) as running, ThreadPoolExecutor(CALLERS) as callers:

        def ask_some(_: int) -> list[Answer]:
            with requests.Session() as session:
                return [ask(session, running) for _ in range(count // CALLERS)]

        answers = [answer for each in callers.map(ask_some, range(CALLERS)) for answer in each]
    assert all(answer.probability == known[answer.name] for answer in answers)
    low, high = binom.interval(1 - 1e-6, count, share / 100)
    assert low <= sum(answer.name == "challenger" for answer in answers) <= high
    assert len(answers) == count
