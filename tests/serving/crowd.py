"""`python -m tests.serving.crowd <seconds> <folder>...`: versions in one process answer many callers at the same time.

Callers ask each version for one row, a few and many. An answer that is not that of a call of its own is told, and the
process ends with 1.
"""

import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle, islice
from threading import Barrier
from time import monotonic

import mlflow
import numpy as np
import numpy.typing as npt
import pandas as pd
from tests.unit.test_scoring_request import ROW, records

from flight_delays.core.training import prepared
from flight_delays.serving.service import load_checked
from flight_delays.use_case import USE_CASE

CALLERS = 8
SIZES = (1, 17, 101)
Call = Callable[[], npt.NDArray[np.float64]]


def calls(folder: str) -> Iterator[tuple[Call, Call]]:
    """A version's own answer, and its learner's, to a request of each size; the rows have different answers."""
    model = mlflow.pyfunc.load_model(folder)
    loaded, shell = load_checked(model, {}), model.unwrap_python_model()
    for size in SIZES:
        body = records(*({**ROW, "weather_visib": 10 * at / size} for at in range(size)))
        columns = loaded.parser.parse(body).columns
        matrix = prepared(USE_CASE, pd.DataFrame(columns), shell.settings["learnt"]).to_numpy()
        yield (
            lambda columns=columns: loaded.model.score(columns)["probability"],
            lambda m=matrix: shell.model.predict(m),
        )


def main(seconds: float, folders: list[str]) -> int:
    """How many answers there were, all of them as they should be."""
    whole, bare = zip(*(pair for folder in folders for pair in calls(folder)), strict=True)
    expected = {call: call() for call in (*whole, *bare)}
    together = Barrier(CALLERS)

    def keep_asking(caller: int) -> int:
        together.wait()
        until, answered = monotonic() + seconds, 0
        # Most ask the learner alone: with what a version does beside it, two are seldom within it at the same time.
        for call in islice(cycle(bare if caller else whole), caller, None):
            if not np.array_equal(call(), expected[call]):
                raise AssertionError("an answer differs from that of a call of its own")
            answered += 1
            if monotonic() > until:
                break
        return answered

    with ThreadPoolExecutor(CALLERS) as callers:
        return sum(callers.map(keep_asking, range(CALLERS)))


if __name__ == "__main__":
    print(main(float(sys.argv[1]), sys.argv[2:]))
