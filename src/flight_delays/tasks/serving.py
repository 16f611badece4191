"""What the tasks that decide what serves have in common: the endpoint, the aliases and the log follow one order."""

from hashlib import sha256

from flight_delays.core.settings import Serving
from flight_delays.core.traffic import CHALLENGER, CHAMPION, Served
from flight_delays.platform.context import Context
from flight_delays.platform.decision_log import PROMOTION, Decision, champion_in
from flight_delays.platform.endpoints import ONLINE_STORE_SECRET
from flight_delays.platform.online_table import ONLINE_STORE


def split(settings: Serving, champion: int, challenger: int | None = None, percentage: int = 0) -> list[Served]:
    """What the endpoint is to serve: the champion, and beside it a challenger with `percentage` of the requests."""
    shares = {CHAMPION: (champion, 100 - percentage)}
    if challenger is not None:
        shares[CHALLENGER] = (challenger, percentage)
    return [
        Served(name=name, model_name=settings.model_name, model_version=version, percentage=share)
        for name, (version, share) in shares.items()
    ]


def serve(
    context: Context, settings: Serving, champion: int, challenger: int | None = None, percentage: int = 0
) -> None:
    """Let the endpoint serve the champion, and a challenger beside it, and wait until it does."""
    context.serving(settings.endpoint).configure(
        settings.endpoint,
        split(settings, champion, challenger, percentage),
        workload_size=settings.serving_workload_size,
        scale_to_zero=settings.serving_scale_to_zero,
        environment=environment(settings),
        progress=context.console.print,
    )


def environment(settings: Serving) -> dict[str, str]:
    """Variables of the served version; a secret is named, never read."""
    secret = f"{{{{secrets/{settings.secret_scope}/{ONLINE_STORE_SECRET}}}}}"
    return {ONLINE_STORE: secret} if settings.online_store else {}


def make_champion(
    context: Context, settings: Serving, version: int, *, previous: int | None, allowed_by: str, reason: str
) -> None:
    """Let the endpoint serve the version, then move `previous_champion` and `champion` and append to `decisions`.

    Idempotent after any interruption: the aliases follow an endpoint that serves, never the other way round.
    """
    registry, name = context.registry, settings.model_name
    serve(context, settings, version)
    if registry.aliases(name).get("champion") != version:
        if previous is not None:
            registry.set_alias(name, "previous_champion", previous)
        registry.set_alias(name, "champion", version)
    no_longer_challenger(context, name, version)
    # A version that serves and is judged once more changes nothing; one whose promotion was killed is logged now.
    if champion_in(context.decisions.find(model_name=name)) != version:
        context.decisions.append(
            Decision(
                decision_id=sha256(f"{name}|{version}|{PROMOTION}|{allowed_by}".encode()).hexdigest(),
                kind=PROMOTION,
                model_name=name,
                model_version=version,
                other_version=previous,
                outcome="DONE",
                reasons=(reason,),
                allowed_by=allowed_by,
                as_of=context.as_of,
            )
        )
    context.task_values.set("champion", str(version))
    before = "no version" if previous is None else f"version {previous}"
    context.console.print(
        f"Champion of {name} is version {version}, served by {settings.endpoint}; before it: {before}."
    )


def no_longer_challenger(context: Context, model_name: str, version: int) -> None:
    """Delete the alias `challenger` if it points at the version."""
    if context.registry.aliases(model_name).get("challenger") == version:
        context.registry.delete_alias(model_name, "challenger")
