"""The raw tables in memory, as ingest lands them."""

from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.compute as pc
from tests.bikes import USE_CASE

from flight_delays.core.delivery import Batches
from flight_delays.core.quarantine import REASONS, inspect


def raw_tables(until: datetime = datetime(2012, 1, 1, tzinfo=UTC)) -> dict[str, pa.Table]:
    """Good rows of hours that begin before `until`, by table."""
    found = {}
    for source in USE_CASE.sources:
        assert isinstance(source.delivery, Batches)
        batches = [inspect(batch, source.contract) for batch in source.delivery.read(until)]
        rows = pa.Table.from_batches(batches)
        good = pc.and_(pc.equal(pc.list_value_length(rows[REASONS]), 0), pc.less(rows["begins_at"], until))
        found[source.contract.table] = rows.filter(good).select(source.contract.columns)
    return found
