"""The page that Evidently writes; where it is not installed, the command says so at once."""

from importlib.util import find_spec

import pandas as pd
import pytest

from flight_delays.core.errors import UserError
from flight_delays.core.training import columns_of
from flight_delays.tasks import drift_page
from flight_delays.use_case import USE_CASE

HAS_EVIDENTLY = find_spec("evidently") is not None


@pytest.mark.skipif(HAS_EVIDENTLY, reason="Evidently is installed")
def test_without_evidently_the_command_says_what_to_install() -> None:
    with pytest.raises(UserError, match=r"^Evidently is not installed; install flight-delays\[evidently\]$"):
        drift_page.check()


@pytest.mark.skipif(not HAS_EVIDENTLY, reason="Evidently is not installed: an extra")
def test_the_page_shows_each_column_but_times(flights: pd.DataFrame) -> None:
    rows = pd.DataFrame(columns_of(USE_CASE, flights)).head(400)
    rows = rows.drop(
        columns=[name for name in rows if rows.head(200)[name].isna().all() or rows.tail(200)[name].isna().all()]
    )
    text = drift_page.page(USE_CASE, rows.head(200), rows.tail(200))
    assert text.lstrip().startswith("<!DOCTYPE html>")
    assert all(name in text for name in rows.select_dtypes(exclude="datetime"))
