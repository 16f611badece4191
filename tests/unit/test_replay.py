"""Callers' requests, sent once more to versions that an endpoint serves by name."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from databricks.sdk import WorkspaceClient
from databricks.sdk.service.serving import Route, ServedEntityInput, TrafficConfig

from bundle_laptop.api import Faults, serve_workspace
from bundle_laptop.api.scoring import Scored
from flight_delays.core.clocks import Answered
from flight_delays.platform.endpoints import Endpoints
from flight_delays.platform.replay import replay

REQUESTS = [json.dumps({"dataframe_records": [{"row": row}], "client_request_id": "a caller's"}) for row in range(5)]


@pytest.fixture
def asked() -> list[tuple[int, dict[str, object]]]:
    """What each version was asked."""
    return []


@pytest.fixture
def endpoints(tmp_path: Path, asked: list[tuple[int, dict[str, object]]], faults: Faults) -> Iterator[Endpoints]:
    """Version 1 gets all requests and version 2, which can't answer for odd rows, none."""

    def load(_: str, version: int, __: object) -> object:
        def score(body: bytes, _: str) -> Scored:
            request = json.loads(body)
            asked.append((version, request))
            fails = version == 2 and request["dataframe_records"][0]["row"] % 2
            return Scored(status=500 if fails else 200, content_type="application/json", text='{"predictions": []}')

        return score

    with serve_workspace(tmp_path, loader=load, faults=faults) as address:  # type: ignore[arg-type]
        client = WorkspaceClient(host=address, token="local")
        shares = {"champion": ("1", 100), "challenger": ("2", 0)}
        client.serving_endpoints.create("delay")
        client.serving_endpoints.update_config_and_wait(
            "delay",
            served_entities=[
                ServedEntityInput(name=name, entity_name="a.b.model", entity_version=version)
                for name, (version, _) in shares.items()
            ],
            traffic_config=TrafficConfig(
                routes=[Route(served_model_name=name, traffic_percentage=share) for name, (_, share) in shares.items()]
            ),
        )
        yield Endpoints(client=client)


def test_each_request_is_answered_by_the_version_of_the_name_and_marked_as_no_callers(
    endpoints: Endpoints, asked: list[tuple[int, dict[str, object]]]
) -> None:
    found = {name: replay(endpoints, "delay", name, REQUESTS) for name in ("champion", "challenger")}
    assert [(one.requests, one.errors) for one in found.values()] == [(5, 0), (5, 2)]
    assert [sum(one.latencies_ms.values()) for one in found.values()] == [5, 3]
    assert {request["client_request_id"] for _, request in asked} == {"rollout-replay"}
    first = {"dataframe_records": [{"row": 0}], "client_request_id": "rollout-replay"}
    assert [version for version, request in asked if request == first] == [1, 1, 2, 2]  # the first one wakes it
    assert len(asked) == 12


def test_without_requests_nothing_is_asked(endpoints: Endpoints, asked: list[tuple[int, dict[str, object]]]) -> None:
    assert replay(endpoints, "delay", "champion", []) == Answered(requests=0, errors=0, latencies_ms={})
    assert asked == []


@pytest.mark.parametrize("action", ["conflict", "throttle", "fail", "cut_before"])
def test_a_request_that_gets_no_answer_is_an_error(endpoints: Endpoints, faults: Faults, action: str) -> None:
    faults.add(path="invocations", action=action, after=1, times=2)
    found = replay(endpoints, "delay", "champion", REQUESTS)
    assert (found.requests, found.errors, sum(found.latencies_ms.values())) == (5, 2, 3)
