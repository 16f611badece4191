"""Which versions served when, by what was logged; which of them can be compared; is what serves as decided?"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from itertools import pairwise

from flight_delays.core.splits import Holdout
from flight_delays.core.traffic import Served, in_words


@dataclass(frozen=True, kw_only=True)
class Promotion:
    """From `as_of` on this version served, until the next promotion's `as_of`."""

    version: int
    as_of: datetime


def served_recently(
    promotions: Sequence[Promotion], *, as_of: datetime, days: int, apart_from: Collection[int] = ()
) -> tuple[int, ...]:
    """The versions that served at some time in the last `days` days before `as_of`, in ascending order.

    `promotions` are in the order of their recording, which decides between those of the same `as_of`; those after
    `as_of` are not known yet. With 0 days there are none.
    """
    limit = as_of - timedelta(days=days)
    known = sorted((one for one in promotions if one.as_of <= as_of), key=lambda one: one.as_of)
    ended = {one.version for one, after in pairwise(known) if after.as_of > limit}
    serving = {one.version for one in known[-1:] if days}
    return tuple(sorted((ended | serving) - {*apart_from}))


def disagreements(
    champion: int | None, shares: Mapping[int, int], aliases: Mapping[str, int], served: Sequence[Served]
) -> list[str]:
    """A line for each thing that is not as decided.

    Decided are the champion, and the `shares` of the requests in %, by version, that the endpoint gives.
    """
    found = []
    if aliases.get("champion") != champion:
        found.append(
            f"alias champion points at {_version(aliases.get('champion'))}, and {_version(champion)} was decided"
        )
    live = {one.model_version: one.percentage for one in served}
    if live != shares:
        wanted = ", ".join(f"version {version} at {share} %" for version, share in shares.items()) or "nothing"
        found.append(f"the endpoint serves {in_words(served)}, and {wanted} was decided")
    return found


def _version(number: int | None) -> str:
    return "no version" if number is None else f"version {number}"


def why_not_compared(
    *, holdout: Holdout, trained_until: date, takes: Collection[str], columns: Collection[str]
) -> str | None:
    """Why a version that `takes` some columns cannot be compared on the holdout, whose rows have `columns`; or None.

    The days that judge are not made fewer for the sake of a version that has seen some of them.
    """
    if holdout.unseen_by(trained_until) != holdout:
        return f"has seen the days before {trained_until}"
    gone = sorted({*takes} - {*columns})
    return f"takes columns that are gone: {', '.join(gone)}" if gone else None
