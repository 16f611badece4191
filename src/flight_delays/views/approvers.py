"""Who may approve a version, and whether that is in order."""

from rich.console import Console
from rich.table import Table

from flight_delays.core.approval import TAG, Unknown, problems
from flight_delays.core.errors import UserError
from flight_delays.core.settings import Approvers
from flight_delays.platform.approvals import Approvals

_GROUP = "groups/"


def show_approvers(console: Console, approvals: Approvals, settings: Approvers) -> bool:
    """Print who may set the tag; whether somebody can and the jobs cannot."""
    found = approvals.governance(settings.runs_as)
    if isinstance(found, Unknown):
        raise UserError(f"who may set the tag {TAG} is unknown: {found.why}")
    table, somebody = Table("who", "permission", "on", "members"), False
    for grant in found.grants:
        members = (
            approvals.members(grant.principal.removeprefix(_GROUP)) if grant.principal.startswith(_GROUP) else None
        )
        table.add_row(grant.principal, grant.permission, grant.scope, "" if members is None else ", ".join(members))
        somebody = somebody or (grant not in found.own and members != ())
    if found.grants:
        console.print(table)
    wrong = [*problems(found), *(f"NOT checked: {line}" for line in found.unread)]
    if found.policy and not somebody:
        wrong.append(f"nobody but account admins can set the tag {TAG}")
    for line in wrong:
        console.print(line, soft_wrap=True)
    if not wrong:
        console.print(
            f"In order: {found.runs_as.name}, whom the jobs run as, cannot set the tag {TAG}.", soft_wrap=True
        )
    return not wrong
