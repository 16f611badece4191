"""Times that people write."""

from datetime import UTC, datetime

from flight_delays.core.errors import UserError


def moment_of(text: str) -> datetime:
    """A time in UTC from an ISO 8601 text, UTC where it names no offset. Raises UserError for what is none."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise UserError(f"as_of is {text!r}, not an ISO 8601 time like 2014-01-02T00:00:00Z") from None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def time_text(text: str) -> str:
    """The text, if it is a time. Raises UserError otherwise."""
    moment_of(text)
    return text
