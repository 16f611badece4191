"""What a change does to the model, for whoever reviews it."""

from dataclasses import dataclass

from flight_delays.core.tries import Comparison


@dataclass(frozen=True, kw_only=True)
class Golden:
    """The champion's golden requests answered by both: how far answers are apart; or why the other can't."""

    requests: int
    differ: int = 0
    mean: float = 0.0
    furthest: float = 0.0
    failed: str = ""


@dataclass(frozen=True, kw_only=True)
class Diff:
    """A version against the champion; without `found` both are the same version."""

    name: str
    version: int
    champion: int
    commit: str
    new_columns: tuple[str, ...]
    lost_columns: tuple[str, ...]
    found: Comparison | None
    golden: Golden

    @property
    def is_worse(self) -> bool:
        """Whether that is shown."""
        return self.found is not None and self.found.worse_by.low > 0

    @property
    def conclusion(self) -> str:
        """In words."""
        if self.golden.failed:
            return "it fails on requests that the champion answers: do not release"
        if self.is_worse:
            return "worse: do not release"
        return "better" if self.found is not None and self.found.worse_by.high < 0 else "no different"
