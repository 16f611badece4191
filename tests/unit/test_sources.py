"""The delivered files, read without Spark."""

import pandas as pd
import pytest

from flight_delays.core.quarantine import Contract
from flight_delays.use_case import sources


@pytest.mark.parametrize(
    ("contract", "file", "rows"),
    [
        (sources.FLIGHTS, "flights.csv.zip", 336_776),
        (sources.WEATHER, "weather.csv", 26_115),
        (sources.PLANES, "planes.csv", 3_322),
    ],
)
def test_a_file_has_all_its_rows_and_every_column_of_its_contract(contract: Contract, file: str, rows: int) -> None:
    delivered = pd.read_csv(sources._package_data() / file, dtype=str)
    assert len(delivered) == rows
    assert {field.source for field in contract.fields.values()} <= set(delivered.columns)
