"""The stream, crashed at every write: no entity lost, none scored twice, no micro-batch with two versions. No Spark."""

from collections import Counter
from random import Random

import pytest
from tests.streams import (
    Case,
    CrashError,
    Day,
    Found,
    MemoryLog,
    World,
    case,
    crashes,
    expected,
    made_up_model,
    real_day,
)


@pytest.fixture(scope="module")
def day() -> Day:
    return real_day()


def found(log: MemoryLog) -> Found:
    rows = [row for batch in log.predictions.values() for row in batch.to_pylist()]
    assert len({row["entity_id"] for row in rows}) == len(rows)
    return {(row["entity_id"], row["model_version"]): row["probability"] for row in rows}


def run(log: MemoryLog, of: Case, rng: Random) -> int:
    """All micro-batches with crashes; between two tries anything may happen. How many crashes there were."""
    world, crashed = World(log=log), 0
    for number, events in enumerate(of.batches):
        for crash in crashes(rng):
            try:
                world.attempt(number, events, crash)
                break
            except CrashError:
                crashed += 1
                world.champion = rng.randrange(1, 9)
                if rng.random() < 0.3:
                    log.correct_the_weather(rng.uniform(0, 10))
        if rng.random() < 0.2:
            log.land()
            world.memory = None
        if rng.random() < 0.2:
            world.champion = rng.randrange(1, 9)
    return crashed


def test_however_cut_crashed_and_replayed_the_stream_ends_with_the_batch_result_at_the_recorded_versions(
    day: Day, pytestconfig: pytest.Config
) -> None:
    cases, first = (int(pytestconfig.getoption(name)) for name in ("--stream-cases", "--stream-seed"))
    crashed = 0
    for seed in range(first, first + cases):
        rng = Random(seed)
        this = case(day.events, seed, batches=rng.randrange(1, 9))
        log = MemoryLog(raw=[day.raw], holds=rng.random() < 0.9)
        crashed += run(log, this, rng)
        should_be = expected(log.runs, log.raw_at, this.batches, made_up_model)
        assert found(log) == pytest.approx(should_be, rel=0, abs=1e-9), f"seed {seed}"
        counted = Counter(fate for of in log.judged.values() for fate in of["fate"].to_pylist())
        assert {name: counted[fate] for name, fate in INJECTED.items()} == this.injected, f"seed {seed}"
        assert len(log.runs) == len({one.batch_id for one in log.runs})
    assert crashed > cases


INJECTED = {"out_of_order": "out_of_order", "duplicated": "duplicate", "late": "late"}
