"""Does the endpoint answer as the batch did? The same rows, asked one way and the other."""

from pyspark.sql import functions as F

from flight_delays.core.contract import GOLDEN_TOLERANCE
from flight_delays.core.errors import UserError
from flight_delays.core.feature_set import ENTITY, KEY, PREDICTION_TIME
from flight_delays.core.settings import Parity
from flight_delays.platform.context import Context
from flight_delays.tasks.load_test import cells
from flight_delays.tasks.printing import show

ROWS = 200


def run(context: Context, settings: Parity) -> None:
    """Ask `endpoint` for the newest rows that its champion has scored in a batch.

    Requests leave the looked-up columns to the online store, if there is one. Raises UserError if an answer is
    another than the batch's, or if the endpoint serves another champion than the registry names.
    """
    model_name, endpoint = settings.model_name, settings.endpoint
    number = context.registry.aliases(model_name).get("champion")
    endpoints = context.endpoints()
    served = {(one.name, one.model_name): one.model_version for one in endpoints.configuration(endpoint)}
    if number is None or served.get(("champion", model_name)) != number:
        raise UserError(
            f"endpoint {endpoint} serves version {served.get(('champion', model_name), 'none')} of {model_name} as its "
            f"champion, and the registry's is {number or 'none'}; run the train job, which releases what passes"
        )
    forecast = context.use_case.objective.forecast
    ours = (F.col("model_name") == model_name) & (F.col("model_version") == number) & (F.col("source") == "batch")
    scored = context.tables.read("predictions").where(ours & (F.col(PREDICTION_TIME) <= F.lit(context.as_of)))
    asked = (
        context.tables.read("features")
        .join(scored.select(*KEY, F.col(forecast).alias("_of_batch")), [*KEY])
        .orderBy(F.desc(PREDICTION_TIME), ENTITY)
        .limit(ROWS)
        .toPandas()
    )
    if asked.empty:
        raise UserError(f"version {number} of {model_name} has scored nothing; run the score_batch job first")
    columns = [*(context.use_case.request if settings.online_store else context.use_case.inputs)]
    answer = endpoints.query(
        endpoint, {"dataframe_split": {"columns": columns, "data": cells(asked, columns)}}, "champion"
    )
    answered = [float(str(row[forecast])) for row in answer.predictions]
    off = [abs(live - batch) for live, batch in zip(answered, asked["_of_batch"], strict=True)]
    wrong = [at for at, difference in enumerate(off) if not difference <= GOLDEN_TOLERANCE]  # or what is no number
    show(
        context.console,
        f"Endpoint {endpoint} and batch, version {number}",
        ("rows", "same answer", "largest difference", "time to answer (ms)"),
        [(len(off), len(off) - len(wrong), f"{max(off):.3g}", answer.duration_ms)],
    )
    if wrong:
        entity, live, batch = asked[ENTITY][wrong[0]], answered[wrong[0]], asked["_of_batch"][wrong[0]]
        raise UserError(
            f"{len(wrong)} of {len(off)} answers of endpoint {endpoint} differ from the batch's: "
            f"{context.use_case.entity} {entity} got "
            f"{live:.6f}, and in the batch {batch:.6f}; run the features job, which fills the online store, then "
            "score_batch, and compare again"
        )
    context.task_values.set("compared", f"{len(off):,}")
