"""Stop, reset and the rate, without Spark."""

import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.contexts import have_databricks_connect

from bundle_laptop.pytest_plugin import LaptopWorkspace
from flight_delays import cli
from flight_delays.core.errors import UserError
from flight_delays.platform.volumes import Folder
from flight_delays.tasks import stream_control
from flight_delays.tasks.score_stream import _why

VOLUME = "/Volumes/main/flights/checkpoints"


@pytest.fixture
def volume(laptop_workspace: LaptopWorkspace) -> Path:
    there = laptop_workspace.folder / "volumes/main/flights/checkpoints"
    (there / "score_stream/offsets").mkdir(parents=True)
    (there / "score_stream/metadata").write_text('{"id": "q"}')
    return there


@pytest.fixture(params=["mounted", "workspace"])
def checkpoint(volume: Path, laptop_workspace: LaptopWorkspace, request: pytest.FixtureRequest) -> Folder:
    """Reached by its path, and over HTTP."""
    if request.param == "mounted":
        return Folder(path=str(volume / "score_stream"))
    return Folder(path=f"{VOLUME}/score_stream", client=laptop_workspace.client)


def test_to_stop_is_to_leave_the_file_that_a_stream_looks_for_beside_its_checkpoint(
    checkpoint: Folder, volume: Path
) -> None:
    stream_control.stop(checkpoint)
    assert sorted(path.name for path in volume.iterdir()) == ["score_stream", "score_stream.stop"]
    assert stream_control.stop_file(str(volume / "score_stream")).exists()


def test_to_reset_is_to_forget_the_checkpoint_alone(checkpoint: Folder, volume: Path) -> None:
    (volume / "other").mkdir()
    stream_control.reset(checkpoint)
    assert [path.name for path in volume.iterdir()] == ["other"]


def test_a_query_is_named_by_its_checkpoint(checkpoint: Folder) -> None:
    assert stream_control.query_id(checkpoint) == "q"


@pytest.mark.parametrize("command", [stream_control.stop, stream_control.reset])
def test_a_stream_that_was_never_started_is_said_to_be_so(tmp_path: Path, command) -> None:
    with pytest.raises(UserError, match=r"none does not exist: (no stream was started there|there is nothing to)"):
        command(Folder(path=str(tmp_path / "none")))


@pytest.mark.parametrize(
    ("batches", "expected"),
    [
        ([], None),
        ([(0, 100)], None),  # one moment is no time
        ([(0, 100), (0, 50)], None),
        ([(0, 100), (10, 50)], 5.0),  # what came after the first moment
        ([(0, 100), (10, 50), (20, 0), (40, 150)], 5.0),
    ],
)
def test_the_rate_is_of_what_came_between_the_first_micro_batch_and_the_last(
    batches: list[tuple[int, int]], expected: float | None
) -> None:
    noon = datetime(2013, 1, 1, 12, tzinfo=UTC)
    recent = [{"events": events, "recorded_at": noon + timedelta(seconds=seconds)} for seconds, events in batches]
    assert stream_control.rate(recent) == expected


def test_with_databricks_connect_the_commands_reach_the_workspaces_volume(
    volume: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    have_databricks_connect(monkeypatch, tmp_path)

    def call(command: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["flight-delays", "stream", command, f"--checkpoint={VOLUME}/score_stream"])
        with pytest.raises(SystemExit) as ended:
            cli.console()
        printed = capfd.readouterr()
        return ended.value.code, printed.out + printed.err

    assert call("stop")[1].startswith("The stream ends after the current micro-batch")
    assert sorted(path.name for path in volume.iterdir()) == ["score_stream", "score_stream.stop"]
    assert call("reset")[1].startswith("Checkpoint deleted.")
    assert [path.name for path in volume.iterdir()] == ["score_stream.stop"]
    refused = f"{VOLUME}/score_stream does not exist: no stream was started there"
    assert call("stop") == (2, f"flight-delays: {refused}\n")


@pytest.mark.parametrize(
    ("said", "line"),
    [
        ("[USER_FUNCTION_ERROR] An error\n  flight_delays.core.errors.UserError: no champion\n at x", "no champion"),
        ("[DELTA_SCHEMA_CHANGED] Changed\n more", "the stream failed: [DELTA_SCHEMA_CHANGED] Changed"),
        ("", "the stream failed: ValueError"),
    ],
)  # fmt: skip
def test_a_failed_stream_says_why_in_one_line(said: str, line: str) -> None:
    assert _why(ValueError(said)) == line
