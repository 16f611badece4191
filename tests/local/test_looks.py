"""What people look at: the notebooks, run for real, and what they show of what the jobs have made."""

import io
import shutil
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pandas as pd
import pytest
from jupyter_client.blocking import BlockingKernelClient
from pyspark.sql import SparkSession
from rich.console import Console
from tests.worlds import MODEL, ROOT, SCHEMA, TWO_MONTHS, World, contents

from bundle_laptop.notebook import kernel_in
from bundle_laptop.session import opened
from flight_delays.core.errors import UserError
from flight_delays.core.settings import Report
from flight_delays.platform.context import Context, open_context
from flight_delays.use_case import USE_CASE
from flight_delays.views import look
from flight_delays.views.report import write_report

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.py"))
QUALIFIED = f"spark_catalog.{SCHEMA}"


@pytest.fixture
def context(world: World) -> Iterator[Context]:
    with opened(world.root, "dev", TWO_MONTHS, Console(file=io.StringIO())):
        yield open_context(USE_CASE, QUALIFIED, TWO_MONTHS["as_of"])


def test_every_notebook_runs_from_top_to_bottom_and_shows_its_pictures(world: World) -> None:
    with opened(world.root, "dev", TWO_MONTHS, Console(file=io.StringIO())) as session:
        pages = list(session.look(NOTEBOOKS, {"trial_days": "7"}))  # two months leave too few days for the usual 28
    assert [page.stem for page in pages] == [notebook.stem for notebook in NOTEBOOKS]
    shown = {page.stem: _shown(page.with_suffix(".ipynb")) for page in pages}
    pictures = {name: types.count("image/png") for name, types in shown.items()}
    assert pictures == {
        "data_overview": 1,
        "exploration": 0,
        "features": 1,
        "predictions": 2,
        "training": 3,
        "verdict": 2,
    }
    assert all("text/html" in types for types in shown.values())
    assert all("<img" in page.read_text() for page in pages if pictures[page.stem])


def _shown(file: Path) -> list[str]:
    """Kinds of everything that the cells have shown."""
    cells = nbformat.read(file, as_version=4).cells
    outputs = [output for cell in cells if cell.cell_type == "code" for output in cell.outputs]
    return [kind for output in outputs for kind in output.get("data", {})]


def test_a_changed_feature_counts_when_its_cell_is_run_again(tmp_path: Path) -> None:
    package = tmp_path / "src" / "flight_delays"
    shutil.copytree(ROOT / "src" / "flight_delays", package, ignore=shutil.ignore_patterns("__pycache__"))
    with kernel_in(tmp_path, {"PYTHONPATH": str(package.parent)}) as kernel:
        client = kernel.blocking_client()
        client.start_channels()
        client.wait_for_ready(timeout=120)
        _change_a_feature(client, package / "use_case" / "prepare.py")
        client.stop_channels()


def _change_a_feature(client: BlockingKernelClient, file: Path) -> None:
    def run(code: str) -> str:
        printed: list[str] = []

        def hear(message: dict[str, dict[str, str]]) -> None:
            printed.append(message["content"].get("text", "") + message["content"].get("evalue", ""))

        client.execute_interactive(code, output_hook=hear, timeout=120)
        return "".join(printed)

    cell = "print(list(prepared(USE_CASE, rows, {'carrier': ['UA']})))"
    run("%load_ext autoreload\n%autoreload 2")
    run(
        "import pandas as pd\nfrom flight_delays.core.training import prepared\n"
        "from flight_delays.use_case import USE_CASE\n"
        "rows = pd.DataFrame({'carrier': ['UA'], 'flight': [1], 'origin': ['EWR'], 'dest': ['ORD'], 'distance': [700],"
        " 'sched_arr_time': [900], 'sched_dep_ts': pd.to_datetime(['2013-01-01 12:00'])})"
    )
    assert "'distance'" in run(cell)
    assert "is_far" not in run(cell)

    text = file.read_text()
    line = '        "weekday": '
    assert line in text
    file.write_text(text.replace(line, f'        "is_far": np.asarray(columns["distance"] > 1000, "float64"),\n{line}'))
    assert "'is_far'" in run(cell)


def test_the_data_is_counted_as_the_tables_hold_it(context: Context, spark: SparkSession) -> None:
    rows = look.data(context, QUALIFIED).tables["rows"].set_index("table")
    tables = contents(spark)
    views = {
        "late_events": 0,
        "stream_progress": 0,
        "latest_predictions": tables["predictions"]["entity_id"].nunique(),
    }
    assert dict(rows["rows"]) == {name: len(table) for name, table in tables.items() if name != "raw_rejects"} | views
    assert rows.loc["features", "last"] == tables["features"]["prediction_ts"].max()


def test_a_trial_leaves_the_holdout_unseen(context: Context) -> None:
    trial = look.training(context, QUALIFIED, holdout_days=14, trial_days=7).tables["scores"].iloc[0]
    assert str(trial["trained_until"]) == "2013-02-07"
    with pytest.raises(UserError, match="lower holdout_days or trial_days"):
        look.training(context, QUALIFIED, holdout_days=14, trial_days=60)


def test_forecasts_are_shown_on_days_that_the_champion_has_not_seen(context: Context) -> None:
    by_day = look.predictions(context, MODEL).figures["by day"]
    first, *_ = by_day.axes[1].lines[0].get_xdata()
    assert pd.Timestamp(first) == pd.Timestamp("2013-02-14")


def test_what_is_not_there_yet_is_said_in_one_line(context: Context, tmp_path: Path) -> None:
    model = f"{QUALIFIED}.nothing"
    said = []
    for nothing in (look.champion, look.verdict, look.predictions):
        with pytest.raises(UserError, match=r"run the|deploy the bundle") as error:
            nothing(context, model)
        said.append(f'<p class="soft">{error.value}</p>')
    write_report(context, Report(raw_schema=QUALIFIED, model_name=model, file=tmp_path / "report.html"))
    page = (tmp_path / "report.html").read_text()
    assert [line for line in said if line not in page] == []
    assert page.count("<img") == 1
