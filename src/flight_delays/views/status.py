"""Which version serves, since when and why, and whether endpoint and aliases are as it was decided."""

from rich.console import Console
from rich.table import Table

from flight_delays.core.releases import disagreements
from flight_delays.core.settings import Status
from flight_delays.core.traffic import in_words
from flight_delays.platform.context import Adapters
from flight_delays.platform.decision_log import Decision, champion_in, releases_in
from flight_delays.platform.rollout_log import ROLLOUT, rollout_under_way
from flight_delays.views.production import serves_since


def show_status(adapters: Adapters, settings: Status) -> bool:
    """Print it; whether all agrees."""
    console, name = adapters.console, settings.model_name
    decisions = adapters.decisions.find(model_name=name)
    newest = releases_in(decisions)[-1:]
    aliases, served = (
        adapters.registry.aliases(name),
        adapters.serving(settings.endpoint).configuration(settings.endpoint),
    )
    for one in newest:
        console.print(f"{name} {serves_since(one)}")
        console.print(f"by a {one.kind}: {'; '.join(one.reasons)}")
    if not newest:
        console.print(f"No version of {name} serves yet; run the train job, which releases one that passes.")
    console.print(f"Endpoint {settings.endpoint}: {in_words(served)}")
    console.print(f"Aliases: {', '.join(f'{alias} {number}' for alias, number in sorted(aliases.items())) or 'none'}")
    _show_decisions(console, decisions[: -settings.last - 1 : -1])
    champion = champion_in(decisions)
    shares = {} if champion is None else {champion: 100}
    rollout = rollout_under_way(decisions)
    if rollout is not None:
        state = rollout.state
        shares = {rollout.champion: 100 - state.percentage, rollout.challenger: state.percentage}
        how = "paused" if state.paused else "waits for a person" if state.asked else "under way"
        console.print(
            f"Rollout of version {rollout.challenger}, {how}: {state.percentage} % of the requests since "
            f"{state.since:%Y-%m-%d %H:%M} UTC; its last step:"
        )
        for line in [row for row in decisions if row.kind == ROLLOUT][-1].reasons:
            console.print(f"  {line}")
    found = disagreements(champion, shares, aliases, served)
    for line in found:
        console.print(f"DISAGREES: {line}")
    if found:
        console.print("The job rollout puts that right; with order=adopt it decides what the endpoint serves instead.")
    return not found


def _show_decisions(console: Console, decisions: list[Decision]) -> None:
    table = Table("as of, UTC", "kind", "version", "outcome", "reason")
    for one in decisions:
        others = [line for line in one.reasons if not line.startswith("PASS")] or ["all checks pass"]
        table.add_row(f"{one.as_of:%Y-%m-%d %H:%M}", one.kind, str(one.model_version), one.outcome, others[0])
    console.print(table)
