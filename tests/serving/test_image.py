"""A version's image: what is in it, that it serves as it is started there, and on Azure Functions."""

import json
import re
import signal
from pathlib import Path

import mlflow
import pandas as pd
import requests
from tests.serving.conftest import RunningImage
from tests.serving.images import ROOT, Unpacked, megabytes, process_of, ready
from tests.serving.live import JSON, PATIENCE_S, Live, free_port
from tests.serving.test_app import GOOD, answer, open_request, refuses, wait_for
from tests.unit.test_scoring_request import ROW, records

from flight_delays.platform.registry import read_golden_requests

FUNCTIONS = ROOT / "deploy/functions"
MOST_MB = 500


def test_a_context_has_all_that_the_dockerfile_copies_and_nothing_else(image: Unpacked) -> None:
    (wheel,) = image.context.glob("*.whl")
    known = {"Dockerfile", "model", "requirements.txt", "sbom.cdx.json", wheel.name}
    assert {path.name for path in image.context.iterdir()} == known
    assert [path.name for path in image.context.parent.glob(".context*")] == []
    copied = re.findall(r"(?m)^COPY (?!--from)(.+)", (image.context / "Dockerfile").read_text())
    assert copied == ["requirements.txt *.whl /build/", "model /opt/model"]


def test_it_answers_its_own_golden_requests(running_image: RunningImage) -> None:
    model = mlflow.pyfunc.load_model(str(running_image.image.context / "model"))
    golden = model.unwrap_python_model().golden
    asked = json.loads(read_golden_requests(model).to_json(orient="records", date_format="iso", date_unit="us"))
    rows = [{name: _plain(value) for name, value in row.items()} for row in asked]
    answered = requests.post(f"{running_image.url}/invocations", data=records(*rows), headers=JSON, timeout=PATIENCE_S)
    assert answered.status_code == 200, answered.text
    found = [row["probability"] for row in answered.json()["predictions"]]
    assert pd.Series(found).sub(golden["probability"]).abs().max() < 1e-9
    assert len(found) > 1


def _plain(value: object) -> object:
    return value.removesuffix("Z") if isinstance(value, str) and re.fullmatch(r"\d{4}-.+T.+Z?", value) else value


def test_it_says_which_version_it_serves(running_image: RunningImage) -> None:
    told = requests.get(f"{running_image.url}/version", timeout=PATIENCE_S).text
    assert "in_an_image" in told


def test_it_writes_nothing_but_temporary_files(running_image: RunningImage) -> None:
    asked = requests.post(f"{running_image.url}/invocations", data=records(ROW), headers=JSON, timeout=PATIENCE_S)
    assert asked.status_code == 200
    assert running_image.image.written == []


def test_it_takes_no_more_than_is_said(running_image: RunningImage) -> None:
    """How fast it starts depends on the machine: it is printed, and docs/containers.md has what was measured."""
    opt = running_image.image.opt
    size = megabytes(opt)
    print(f"{size:.0f} MB, of it the model {megabytes(opt / 'model'):.1f}; ready after {running_image.seconds:.1f} s")
    assert 100 < size <= MOST_MB


def test_the_functions_host_is_answered_and_a_request_in_flight_when_it_stops_the_service_too(image: Unpacked) -> None:
    """What the host adds and where it asks: WebJobs.Script/Workers/Http of github.com/Azure/azure-functions-host."""
    host = json.loads((FUNCTIONS / "host.json").read_text())
    handler = host["customHandler"]
    assert handler["enableForwardingHttpRequest"] is True
    (trigger,) = (
        one
        for one in json.loads((FUNCTIONS / "scoring/function.json").read_text())["bindings"]
        if one["direction"] == "in"
    )
    assert trigger["route"] == "{*path}"
    prefix = host["extensions"]["http"]["routePrefix"]
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    program = handler["description"]["defaultExecutablePath"].replace("/opt", str(image.opt))
    command = (program, *handler["description"]["arguments"])
    forwarded = {
        **JSON,
        "X-Azure-Functions-HostVersion": "4.1047.100",
        "X-Azure-Functions-InvocationId": "6a8e8aaa-4a4c-4f5e-9d36-df5b2bd1a9a1",
        "User-Agent": "Azure-Functions-Host/4.1047.100",
        "X-Forwarded-For": "203.0.113.7:4711",
        "X-Original-URL": "/invocations",
        "x-functions-key": "a function's key",
    }
    with process_of(image, command, FUNCTIONS_CUSTOMHANDLER_PORT=str(port)) as process:
        ready(process, url)
        assert requests.get(url, timeout=PATIENCE_S).status_code == 404  # any answer tells the host that it is up
        path = f"{url}/{prefix}/invocations".replace(f"{port}//", f"{port}/")
        answered = requests.post(path, data=records(ROW), headers=forwarded, timeout=PATIENCE_S)
        assert (answered.status_code, len(answered.json()["predictions"])) == (200, 1)
        wrong = requests.post(path, data=records(ROW | {"distance": "far"}), headers=forwarded, timeout=PATIENCE_S)
        assert wrong.status_code == 400
        running = Live(url=url, service=None)  # type: ignore[arg-type]  # it is elsewhere
        with open_request(running) as opened:
            wait_for(lambda: running.metric("requests_in_flight") == 1)
            process.send_signal(signal.SIGTERM)
            wait_for(lambda: refuses(port))
            opened.sendall(GOOD[10:])
            assert answer(opened).startswith("HTTP/1.1 200 ")
        assert process.wait(PATIENCE_S) in (0, -signal.SIGTERM)
    assert image.written == []


def test_a_dockerfile_of_functions_takes_what_the_image_has() -> None:
    dockerfile = (FUNCTIONS / "Dockerfile").read_text()
    copied = re.findall(r"(?m)^COPY (?!--from)(\S+)", dockerfile)
    assert [name for name in copied if not (FUNCTIONS / name).exists()] == []
    assert {path.name for path in FUNCTIONS.iterdir()} - {"Dockerfile"} == {*copied}
    image = (ROOT / "deploy/image/Dockerfile").read_text()
    for path in re.findall(r"(?m)^COPY --from=service (\S+)", dockerfile):
        assert path in image
    assert Path(json.loads((FUNCTIONS / "host.json").read_text())["customHandler"]["description"][
        "defaultExecutablePath"
    ]).is_relative_to("/opt/venv")  # fmt: skip
