"""The bundle's jobs in a world of their own."""

from collections.abc import Iterator

import pytest

from flight_delays.platform.online_table import ONLINE_STORE_LIMIT_MS


@pytest.fixture(scope="package", autouse=True)
def _patient() -> Iterator[None]:
    """On a busy machine an online store takes longer than a request would wait for it."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv(ONLINE_STORE_LIMIT_MS, "30000")
        yield
