"""Does a version answer on another platform as it did when it was made? On a staging endpoint, which it gets alone."""

from collections.abc import Callable

from flight_delays.core.contract import GOLDEN_TOLERANCE
from flight_delays.core.errors import UserError
from flight_delays.core.settings import Stage
from flight_delays.core.traffic import CHAMPION, Served
from flight_delays.platform.registry import Registry, read_golden_requests, recorded_answers
from flight_delays.platform.scoring_client import post
from flight_delays.platform.serving_platform import ServingPlatform
from flight_delays.tasks.load_test import cells


def run(given: Stage, registry: Registry, platform: ServingPlatform, tell: Callable[[str], None]) -> str:
    """Serve the version, then send its golden requests and one that has to be refused.

    Returns what was found. Raises UserError for another answer than the recorded one.
    """
    name, number = given.model_name, given.model_version
    model = registry.load(name, number)
    requests, recorded = read_golden_requests(model), recorded_answers(model)
    platform.configure(
        given.endpoint,
        [Served(name=CHAMPION, model_name=name, model_version=number, percentage=100)],
        workload_size="Small",
        scale_to_zero=False,
        environment={},
        progress=tell,
    )
    url, headers = platform.address(given.endpoint, CHAMPION)
    columns = [*requests.columns]

    def ask(without: int) -> tuple[int, object]:
        rows = [row[without:] for row in cells(requests, columns)]
        return post(url, headers, {"dataframe_split": {"columns": columns[without:], "data": rows}})

    def broken(why: str) -> UserError:
        return UserError(f"{given.endpoint} does not answer as {name} version {number}: {why}")

    match ask(without=0):
        case 200, {"predictions": [*rows]} if len(rows) == len(recorded):
            answers = [float(row[recorded.name]) for row in rows]
        case status, said:
            raise broken(f"its golden requests get status {status}: {str(said)[:300]}")
    off = max(abs(answer - known) for answer, known in zip(answers, recorded, strict=True))
    if not off <= GOLDEN_TOLERANCE:
        raise broken(f"an answer is off by {off:.3g} from the recorded one; build the image again")
    status, said = ask(without=1)
    if status != 400:
        raise broken(f"a request without {columns[0]} gets status {status}, not 400")
    return f"{given.endpoint} answers all {len(answers)} golden requests of {name} version {number} as recorded."
