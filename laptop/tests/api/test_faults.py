"""Faults that a test injects, as the unmodified WorkspaceClient meets them."""

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import requests
from databricks.sdk.errors import InternalError, ResourceConflict, TemporarilyUnavailable
from pydantic import ValidationError

ME = "/api/2.0/preview/scim/v2/Me"
SCOPES = "/api/2.0/secrets/scopes"


def statuses(workspace: Any, path: str = ME) -> list[int | None]:
    return [served.status for served in workspace.faults.requests if served.path == path]


def test_a_conflict_is_met_as_often_as_it_is_asked_for(workspace: Any) -> None:
    workspace.faults.add(action="conflict", path="/Me$", times=2)
    client = workspace.client
    for _ in range(2):
        with pytest.raises(ResourceConflict, match=r"^conflict, injected by the laptop's faults$"):
            client.current_user.me()
    assert client.current_user.me().user_name == "local"
    assert statuses(workspace) == [409, 409, 200]


@pytest.mark.parametrize(("after", "expected"), [(0, [409, 200, 200]), (1, [200, 409, 200]), (2, [200, 200, 409])])
def test_requests_pass_before_the_fault(workspace: Any, after: int, expected: list[int]) -> None:
    workspace.faults.add(action="conflict", after=after)
    assert [workspace.send("GET", ME).status_code for _ in range(3)] == expected


@pytest.mark.parametrize(
    ("rule", "hit"),
    [
        ({}, True),
        ({"method": "GET"}, True),
        ({"method": "POST"}, False),
        ({"path": "/Me$"}, True),
        ({"path": "^/Me"}, False),
        ({"path": r"v\d/Me", "method": "*"}, True),
    ],
)
def test_a_fault_is_for_a_method_and_a_path(workspace: Any, rule: dict[str, Any], hit: bool) -> None:
    workspace.faults.add(action="conflict", **rule)
    assert workspace.send("GET", ME).status_code == (409 if hit else 200)


def test_of_several_faults_the_first_that_is_due_acts(workspace: Any) -> None:
    workspace.faults.add(action="conflict", after=1)
    workspace.faults.add(action="throttle", retry_after=0, times=2)
    assert [workspace.send("GET", ME).status_code for _ in range(4)] == [429, 409, 429, 200]


def test_throttling_is_waited_for_by_the_client(workspace: Any) -> None:
    client = workspace.client
    workspace.faults.add(action="throttle", times=1, retry_after=0)
    assert client.current_user.me().user_name == "local"
    assert statuses(workspace) == [429, 200]
    workspace.faults.add(action="throttle", retry_after=7)
    assert workspace.send("GET", ME).headers["Retry-After"] == "7"
    workspace.faults.add(action="throttle")
    assert "Retry-After" not in workspace.send("GET", ME).headers


def test_a_failure_has_the_status_that_is_asked_for(workspace: Any) -> None:
    client = workspace.new_client(retry_timeout_seconds=1)
    workspace.faults.add(action="fail")
    with pytest.raises(InternalError, match=r"^fail, injected"):
        client.current_user.me()
    workspace.faults.add(action="fail", status=599)
    assert workspace.send("GET", ME).status_code == 599
    workspace.faults.add(action="fail", status=503, times=None)
    with pytest.raises((TemporarilyUnavailable, TimeoutError)):
        client.current_user.me()
    workspace.faults.clear()
    assert client.current_user.me().user_name == "local"


def test_a_request_that_hangs_is_performed_all_the_same(workspace: Any) -> None:
    workspace.faults.add(action="hang", seconds=0.3, path=SCOPES, method="POST")
    with pytest.raises(requests.Timeout):
        requests.post(
            f"{workspace.address}{SCOPES}/create",
            headers={"Authorization": "Bearer any"},
            json={"scope": "a"},
            timeout=0.1,
        )
    time.sleep(0.4)
    assert [scope.name for scope in workspace.client.secrets.list_scopes()] == ["a"]


def test_a_hang_without_an_end_lasts_until_the_server_stops_and_performs_nothing(serve: Any) -> None:
    with ThreadPoolExecutor(1) as thread:
        with serve() as workspace:
            workspace.faults.add(action="hang", path=SCOPES)
            sent = thread.submit(workspace.send, "POST", f"{SCOPES}/create", json={"scope": "a"})
            time.sleep(0.2)
            assert not sent.done()
        assert isinstance(sent.exception(), requests.ConnectionError)
    assert not (workspace.folder / "api/secrets.json").exists()


@pytest.mark.parametrize(("action", "performed"), [("cut", True), ("cut_before", False)])
def test_whoever_is_cut_off_does_not_know_whether_it_was_performed(
    workspace: Any, action: str, performed: bool
) -> None:
    workspace.faults.add(action=action, path=SCOPES)
    with pytest.raises(requests.ConnectionError):
        workspace.send("POST", f"{SCOPES}/create", json={"scope": "a"})
    assert [scope.name for scope in workspace.client.secrets.list_scopes()] == (["a"] if performed else [])
    assert statuses(workspace, f"{SCOPES}/create") == [None]


def test_the_client_tries_again_after_a_cut_and_finds_what_it_has_done(workspace: Any) -> None:
    client = workspace.client
    workspace.faults.add(action="cut", path=SCOPES)
    with pytest.raises(ResourceConflict, match=r"^secret scope a exists already$"):
        client.secrets.create_scope("a")
    workspace.faults.add(action="cut_before", path=SCOPES)
    client.secrets.create_scope("b")


@pytest.mark.parametrize("sent", [1, 10, 10_000])
def test_an_answer_can_be_cut_in_the_middle(workspace: Any, sent: int) -> None:
    workspace.faults.add(action="cut", sent=sent)
    with pytest.raises((requests.ConnectionError, requests.exceptions.ChunkedEncodingError)):
        workspace.send("GET", ME)
    assert workspace.send("GET", ME).status_code == 200


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ({}, "Field required"),
        ({"action": "explode"}, "Input should be 'conflict',"),
        ({"action": "cut", "path": "("}, "Input should be a valid regular expression"),
        ({"action": "cut", "times": 0}, "Input should be greater than or equal to 1"),
        ({"action": "cut", "after": -1}, "Input should be greater than or equal to 0"),
        ({"action": "fail", "status": 499}, "Input should be greater than or equal to 500"),
        ({"action": "fail", "status": 600}, "Input should be less than or equal to 599"),
        ({"action": "cut", "often": 1}, "Extra inputs are not permitted"),
    ],
)
def test_a_wrong_fault_is_refused(workspace: Any, fault: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        workspace.faults.add(**fault)


def test_a_fault_never_keeps_a_client_from_finding_the_workspace(workspace: Any) -> None:
    workspace.faults.add(action="fail", times=None)
    assert workspace.client.config.host == workspace.address
