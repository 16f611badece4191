"""Work is split by time so that no chunk holds more than its bound, and every row that asks is in exactly one."""

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flight_delays.core.chunks import split

ASKING, FACTS = "", "facts"
Load = tuple[str, int, int, int, int]  # of, first hour, last hour, bucket, bytes


def loads(*rows: Load) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["of", "first", "last", "bucket", "bytes"])


def held(rows: pd.DataFrame, start: int, end: int, bucket: int) -> int:
    """Bytes of a chunk, by looking at every row."""
    rows = rows[rows["bucket"] == bucket]
    asking = rows["of"] == ASKING
    inside = asking & rows["first"].between(start, end)
    needed = ~asking & (rows["first"] <= end) & (rows["last"] >= start)
    return int(rows.loc[inside | needed, "bytes"].sum())


@pytest.mark.parametrize(
    ("bound", "chunks"),
    [
        (99, None),  # one hour needs its row and all of the fact
        (100, [(1, 1), (2, 2)]),
        (149, [(1, 1), (2, 2)]),
        (150, [(1, 2)]),
    ],
)
def test_hours_share_a_chunk_up_to_the_bound(bound: int, chunks: list[tuple[int, int]] | None) -> None:
    found = split(loads((ASKING, 1, 1, 0, 50), (ASKING, 2, 2, 0, 50), (FACTS, 0, 5, 0, 50)), bound)
    assert (found and [*zip(found.starts, found.ends, strict=True)]) == chunks


def test_a_fact_that_is_past_or_yet_to_come_takes_no_room() -> None:
    facts = ((FACTS, 0, 0, 0, 1_000), (FACTS, 2, 9, 0, 1_000))
    found = split(loads((ASKING, 1, 1, 0, 50), *facts), bound=50)
    assert found is not None


def test_a_bucket_that_does_not_fit_makes_the_chunks_of_all_shorter() -> None:
    rows = [(ASKING, hour, hour, bucket, 10 + 40 * bucket) for hour in range(4) for bucket in range(2)]
    found = split(loads(*rows), bound=100)
    assert [*zip(found.starts, found.ends, strict=True)] == [(0, 1), (2, 3)]


def test_history_that_would_be_shipped_to_very_many_chunks_is_told() -> None:
    asking = [(ASKING, hour, hour, 0, 60) for hour in range(40)]
    short, long = ((FACTS, 0, 0, 0, 30),), ((FACTS, 0, 40, 0, 30),) * 60
    assert split(loads(*asking, *short), bound=100).few
    assert not split(loads(*asking, *long), bound=1_870).few


def test_nobody_asking_is_one_chunk() -> None:
    found = split(loads((FACTS, 0, 5, 0, 50)), bound=1)
    assert (len(found.starts), found.few) == (1, True)


@given(
    rows=st.lists(
        st.tuples(st.booleans(), st.integers(0, 30), st.integers(0, 12), st.integers(0, 2), st.integers(1, 100)),
        min_size=1,
    ),
    bound=st.integers(1, 600),
)
def test_every_hour_that_asks_is_in_one_chunk_and_no_chunk_is_over_the_bound(
    rows: list[tuple[bool, int, int, int, int]], bound: int
) -> None:
    table = loads(
        *(
            (ASKING, hour, hour, bucket, size) if asks else (FACTS, hour, hour + long, bucket, size)
            for asks, hour, long, bucket, size in rows
        )
    )
    hours = {hour for asks, hour, *_ in rows if asks}
    found = split(table, bound)
    if found is None:
        assert any(held(table, hour, hour, bucket) > bound for hour in hours for bucket in range(3))
        return
    chunks = [*zip(found.starts, found.ends, strict=True)]
    assert all(sum(start <= hour <= end for start, end in chunks) == 1 for hour in hours)
    assert not hours or all(held(table, start, end, bucket) <= bound for start, end in chunks for bucket in range(3))
