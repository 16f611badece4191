"""Stop, reset and `--target`, without Spark."""

from pathlib import Path

import pytest

from flight_delays import cli
from flight_delays.core.errors import UserError
from flight_delays.tasks import stream_control
from flight_delays.tasks.score_stream import _why


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    folder = tmp_path / "score_stream"
    (folder / "offsets").mkdir(parents=True)
    (folder / "metadata").write_text('{"id": "q"}')
    return folder


def test_to_stop_is_to_leave_a_file_beside_the_checkpoint(checkpoint: Path) -> None:
    stream_control.stop(str(checkpoint))
    assert stream_control.stop_file(str(checkpoint)).exists()
    assert sorted(path.name for path in checkpoint.parent.iterdir()) == ["score_stream", "score_stream.stop"]


def test_to_reset_is_to_forget_the_checkpoint_alone(checkpoint: Path) -> None:
    (checkpoint.parent / "other").mkdir()
    stream_control.reset(str(checkpoint))
    assert [path.name for path in checkpoint.parent.iterdir()] == ["other"]


@pytest.mark.parametrize("command", [stream_control.stop, stream_control.reset])
def test_a_stream_that_was_never_started_is_said_to_be_so(tmp_path: Path, command) -> None:
    with pytest.raises(UserError, match=r"none does not exist: (no stream was started there|there is nothing to)"):
        command(str(tmp_path / "none"))


def test_target_gives_each_command_of_the_stream_the_options_that_it_has(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(Path(__file__).parents[2])
    with cli._completed(["stream", "stop", "--target", "dev"]) as arguments:
        assert arguments[:2] == ["stream", "stop"]
        (option,) = arguments[2:]
        assert option.endswith("/volumes/spark_catalog/dev_local_flights/checkpoints/score_stream")
    with cli._completed(["stream", "status", "--target=dev", "--last=3"]) as arguments:
        names = [text.partition("=")[0] for text in arguments[2:]]
        assert names == ["--schema", "--checkpoint", "--max-lag-seconds", "--as-of", "--last"]
    with pytest.raises(UserError, match="stream halt: there are status, start, stop, reset"):
        cli._completed(["stream", "halt", "--target", "dev"]).__enter__()


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
