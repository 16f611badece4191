"""Whole days to learn from and whole days to judge by."""

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

from flight_delays.core.errors import UserError


@dataclass(frozen=True, kw_only=True)
class Holdout:
    """Days `first` (included) to `end` (excluded), in local days of the place where events happen."""

    first: date
    end: date

    @property
    def days(self) -> int:
        """Number of days."""
        return max((self.end - self.first).days, 0)

    def unseen_by(self, *trained_until: date) -> "Holdout":
        """The part that no model trained on days before each of `trained_until` has seen."""
        first = max([self.first, *trained_until])
        return Holdout(first=min(first, self.end), end=self.end)


def last_whole_days(as_of: datetime, days: int, *, zone: ZoneInfo, maturity: timedelta) -> Holdout:
    """The last `days` local days that had ended at least `maturity` before `as_of` (time zone aware).

    The maturity lets outcomes arrive: late flights report last, so a day judged too early looks too punctual.
    Raises UserError for fewer than one day.
    """
    if days < 1:
        raise UserError(f"a holdout of {days} days holds nothing; set holdout_days to 1 or more")
    end = (as_of - maturity).astimezone(zone).date()
    return Holdout(first=end - timedelta(days=days), end=end)


def midnight(day: date, zone: ZoneInfo) -> datetime:
    """The instant at which the local `day` begins."""
    return datetime(day.year, day.month, day.day, tzinfo=zone)
