"""The command, as a person and as a job call it."""

import json
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from flight_delays import cli
from flight_delays.core.errors import UserError
from flight_delays.core.settings import AsOf, made, moment_of
from flight_delays.use_case import USE_CASE

SCORE = ["score-batch", "--schema=main.flights", "--model-name=delay", "--online-store=false"]
AS_OF = "--as-of=2014-01-02T00:00:00Z"
JUDGE = ["judge", "--schema=a.s", "--model-name=m", "--holdout-days=1", "--min-holdout-days=1", AS_OF]
WRONG = [
    pytest.param([*SCORE], "Missing option '--as-of'", id="missing option"),
    pytest.param([*SCORE, AS_OF, "--speed=1"], "No such option '--speed'", id="unknown option"),
    pytest.param(["tables", "--target=dev"], "No such option '--target'", id="a target after the task"),
    pytest.param(["query", "--endpoint=delay"], "give the columns as JSON, or --store-address", id="nowhere to look"),
    pytest.param(["query", "--endpoint=delay", "{,}"], "invalid JSON: ", id="no JSON"),
    pytest.param(["lookup", "an-id"], "--store-address is missing; give the address of the online", id="no store"),
    pytest.param(["explain", "an-id", "--schema=a.s"], "Missing option '--raw-schema'", id="from nowhere"),
    pytest.param(
        ["stage", "--endpoint=delay", "--model-name=m", "--model-version=1"],
        "delay does not begin with kubernetes:// or azureml://",
        id="an endpoint of the workspace",
    ),
    pytest.param(["dance"], "No such command 'dance'", id="unknown command"),
    pytest.param([*SCORE, AS_OF, "surplus"], "unexpected extra argument", id="surplus argument"),
    pytest.param([*SCORE, "--as-of=tomorrow"], "'tomorrow' should be an ISO 8601 time like", id="no time"),
    pytest.param([*SCORE, "--as-of="], "'' should be an ISO 8601 time", id="empty time"),
    pytest.param(["train", "--holdout-days=0"], "Invalid value for '--holdout-days'", id="no days"),
    pytest.param(["score-stream", "--land-every=0"], "Invalid value for '--land-every'", id="never landed"),
    pytest.param(["tables", "--schema=a.s", AS_OF], "No such option '--as-of'", id="a now that nothing needs"),
    pytest.param(["promote", "--model-version=champion"], "Invalid value for '--model-version'", id="an alias"),
    pytest.param([*JUDGE, "--loss-margin=-0.1"], "Invalid value for '--loss-margin'", id="negative margin"),
]


@pytest.fixture
def argv(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The command line, without the program."""
    arguments = ["flight-delays"]
    monkeypatch.setattr(sys, "argv", arguments)
    return arguments


@pytest.mark.parametrize(("arguments", "says"), WRONG)
def test_a_person_gets_one_line_and_exit_code_2(
    argv: list[str], capfd: pytest.CaptureFixture[str], arguments: list[str], says: str
) -> None:
    argv += arguments
    with pytest.raises(SystemExit) as stopped:
        cli.console()
    printed = capfd.readouterr()
    assert (stopped.value.code, printed.out) == (2, "")
    assert printed.err.startswith("flight-delays: ")
    assert says in printed.err
    assert printed.err.count("\n") == 1


@pytest.mark.parametrize(("arguments", "says"), WRONG)
def test_a_job_gets_an_exception(argv: list[str], arguments: list[str], says: str) -> None:
    argv += arguments
    with pytest.raises(UserError) as error:
        cli.job()
    assert says in str(error.value)


@pytest.mark.parametrize(
    ("arguments", "says"), [(["--help"], "--target"), (["train", "--help"], "Usage: flight-delays train")]
)
def test_a_job_that_succeeds_returns_none(
    argv: list[str], capfd: pytest.CaptureFixture[str], arguments: list[str], says: str
) -> None:
    argv += arguments
    assert cli.job() is None
    assert says in capfd.readouterr().out


# As `databricks bundle validate --output json` answers.
TOLD = {
    task: {"tasks": [{"python_wheel_task": {"parameters": [task, *options]}}]}
    for task, options in {
        "promote": (
            *(
                "--schema=main.flights",
                AS_OF,
                "--model-name=delay",
                "--endpoint=delay",
                "--serving-workload-size=Small",
            ),
            *("--serving-scale-to-zero=true", "--secret-scope=kept", "--online-store=false"),
        ),
        "judge": ("--schema=main.flights", AS_OF, "--model-name=delay", "--holdout-days=0"),
        "features": ("--schema=main.flights", AS_OF, "--raw-schema=main.flights"),
        "score-served": ("--schema=main.flights", AS_OF, "--payload-table=main.flights.delay_payload"),
        "score-stream": ("--checkpoint={0}/score_stream", "--max-lag-seconds=60"),
    }.items()
}


@pytest.fixture
def target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """How to ask for one, which a program in the place of the Databricks CLI knows."""
    (tmp_path / "score_stream").mkdir()
    answer = json.dumps({"resources": {"jobs": TOLD}}).replace("{0}", str(tmp_path))
    (tmp_path / "databricks").write_text(f"#!{sys.executable}\nprint({answer!r})")
    (tmp_path / "databricks").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    return ["--target", "prod"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["promote"], "Missing option '--model-version'"),
        (["promote", "--model-version=1"], "Missing option '--verdict-id'"),
        (["judge", "--model-version=1"], "Invalid value for '--holdout-days'"),
        (["judge", "--model-version=1", "--holdout-days=1"], "Missing option '--min-holdout-days'"),
        (["approve"], "Missing option '--model-version'"),
        (["labels"], "Missing option '--schema'"),
        (["stream", "status"], "Missing option '--schema'"),
        (["explain"], "Missing argument 'PREDICTION_ID'"),
        (["stream", "status", "--max-lag-seconds=-1"], "Invalid value for '--max-lag-seconds'"),
    ],
)
def test_a_target_gives_a_task_the_options_of_its_job_and_what_is_given_wins(
    argv: list[str], target: list[str], arguments: list[str], says: str
) -> None:
    argv += [*target, *arguments]
    with pytest.raises(UserError) as error:
        cli.job()
    assert str(error.value).startswith(says)


def test_a_target_gives_every_command_of_the_stream_the_options_of_the_job_that_scores(
    argv: list[str], target: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for command, left in (("stop", ["score_stream", "score_stream.stop"]), ("reset", ["score_stream.stop"])):
        argv[1:] = [*target, "stream", command]
        assert cli.job() is None
        assert sorted(path.name for path in tmp_path.glob("score*")) == left
    assert "Checkpoint deleted." in capfd.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["tables"], None),  # what is missing may be what a run finds out
        (["tables", "--schema=main.flights"], None),
        (["score-batch", "--full", AS_OF], None),
        (["dance"], "there is no task dance"),
        (["tables", "--target=dev"], "task tables has no option --target; it has --schema"),
        (["train", "--holdout-days=0"], "--holdout-days=0: it should be greater than or equal to 1"),
        (["promote", "--model-version=champion"], "--model-version=champion: it should be a valid integer"),
        (["promote", "--online-store=maybe"], "--online-store=maybe: it should be true or false"),
        (["train", "--as-of=tomorrow"], "--as-of=tomorrow: it should be an ISO 8601 time"),
    ],
)
def test_arguments_can_be_checked_before_a_run(arguments: list[str], says: str | None) -> None:
    if says is None:
        cli.check(arguments)
    else:
        with pytest.raises(UserError) as error:
            cli.check(arguments)
        assert str(error.value).startswith(says)


def test_a_person_who_asks_for_help_gets_exit_code_0(argv: list[str]) -> None:
    argv += ["--help"]
    with pytest.raises(SystemExit) as stopped:
        cli.console()
    assert stopped.value.code == 0


@pytest.fixture
def _machine_in_tokyo(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.usefixtures("_machine_in_tokyo")
@pytest.mark.parametrize(
    "text",
    [
        "2014-01-02T05:00:00Z",
        "2014-01-02T05:00:00",
        "2014-01-02 05:00",
        "2014-01-02T00:00:00-05:00",
        "2014-01-02T14:00:00+09:00",
        "2014-01-02T05:00:00.000Z",
    ],
)
def test_as_of_is_utc_unless_it_names_an_offset(text: str) -> None:
    found = moment_of(text)
    assert found == datetime(2014, 1, 2, 5, tzinfo=UTC)
    assert found.tzinfo is UTC


def test_a_day_as_as_of_is_its_first_moment_in_utc() -> None:
    assert moment_of("2014-01-02") == datetime(2014, 1, 2, tzinfo=UTC)


def test_ctrl_c_ends_a_job_rather_than_its_attempt(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(scope: object) -> None:  # noqa: ARG001
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "_opened", interrupted)
    monkeypatch.setattr(sys, "argv", ["flight-delays-task", *SCORE, AS_OF])
    with pytest.raises(KeyboardInterrupt):
        cli.job()


MODULES = {
    "empty": "",
    "package.one": "USE_CASE = 'the one'\n",
    "lacking": "import no_such_library\n",
    "lacking_more": "import lacking_mor\n",
    "broken": "import json\n\njson.no_such_function()\n",
}


@pytest.fixture
def named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[[str], None]]:
    """Names a module as the use case; those of MODULES can be imported."""
    before = {*sys.modules}
    for name, code in MODULES.items():
        file = tmp_path.joinpath(*name.split(".")).with_suffix(".py")
        file.parent.mkdir(exist_ok=True)
        file.write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    yield lambda name: monkeypatch.setenv(cli.USE_CASE, name)
    for name in {*sys.modules} - before:
        if name.partition(".")[0] in {each.partition(".")[0] for each in MODULES}:
            del sys.modules[name]


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("nosuch", "nosuch, and there is no such module"),
        ("no.such.module", "no.such.module, and there is no such module"),
        ("package.two", "package.two, and there is no such module"),
        ("json.two", "json.two, and there is no such module"),
        ("empty", "empty, which exports no USE_CASE"),
        ("package", "package, which exports no USE_CASE"),
    ],
)
def test_a_use_case_that_is_not_there_is_one_line_and_exit_code_2(
    argv: list[str], named: Callable[[str], None], capfd: pytest.CaptureFixture[str], name: str, says: str
) -> None:
    named(name)
    argv += [*SCORE, AS_OF]
    with pytest.raises(SystemExit) as stopped:
        cli.console()
    printed = capfd.readouterr()
    assert (stopped.value.code, printed.out) == (2, "")
    assert printed.err == f"flight-delays: FLIGHT_DELAYS_USE_CASE is {says}\n"


@pytest.mark.parametrize(
    ("name", "error", "says"),
    [
        ("lacking", ModuleNotFoundError, "no_such_library"),
        ("lacking_more", ModuleNotFoundError, "lacking_mor'"),
        ("broken", AttributeError, "no_such_function"),
    ],
)
def test_what_is_wrong_within_a_use_case_is_told_as_it_is(
    named: Callable[[str], None], name: str, error: type[Exception], says: str
) -> None:
    """Else who wrote it would look for a missing name, and not for the line that is wrong."""
    named(name)
    with pytest.raises(error, match=says):
        cli.use_case()


def test_the_use_case_is_the_one_that_is_named_or_else_this_packages_own(named: Callable[[str], None]) -> None:
    named("package.one")
    assert cli.use_case() == "the one"
    named("")
    assert cli.use_case() is USE_CASE


def test_help_needs_no_use_case(
    argv: list[str], named: Callable[[str], None], capfd: pytest.CaptureFixture[str]
) -> None:
    named("nosuch")
    argv += ["train", "--help"]
    assert cli.job() is None
    assert "Usage: flight-delays train" in capfd.readouterr().out


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (
            {"schema": "flights", "as_of": AS_OF[8:]},
            "schema is 'flights': it should be <catalog>.<schema>; `databricks",
        ),
        ({"schema": "a.b", "as_of": "now"}, "as_of is 'now': it should be an ISO 8601 time like 2014-01-02T00:00:00Z"),
        ({"schema": "a.b"}, "as_of is "),
    ],
)
def test_a_notebook_that_is_given_no_place_or_time_is_told_which(given: dict[str, str], says: str) -> None:
    with pytest.raises(UserError) as error:
        made(AsOf, given)
    assert str(error.value).startswith(says)
