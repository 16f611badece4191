"""Score beside the champion every entity that the challenger has not scored yet."""

from flight_delays.core.settings import ScoreBatch, ScoreShadow
from flight_delays.platform.context import Context
from flight_delays.tasks.score_batch import Scoring, score


def run(context: Context, settings: ScoreShadow) -> None:
    """Append to `shadow_predictions`, which nobody takes for what the model forecasts; without a challenger, nothing.

    So both versions have scored the same entities while one is rolled out. What a batch does holds for it too.
    """
    name = settings.model_name
    number = context.registry.aliases(name).get("challenger")
    if number is None:
        context.console.print(f"{name} has no challenger: no version is to be scored beside the champion")
        return
    by = Scoring(model_name=name, number=number, source="shadow", table="shadow_predictions")
    score(context, ScoreBatch(model_name=name, online_store=False), by)
