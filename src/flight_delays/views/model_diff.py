"""A model diff in Markdown, for a pull request."""

from flight_delays.core.markdown import table
from flight_delays.core.model_diff import Diff
from flight_delays.core.use_case import UseCase


def model_diff(use_case: UseCase, diff: Diff) -> str:
    """The conclusion first, then what it rests on."""
    loss, golden = use_case.objective.loss_name, diff.golden
    parts = [
        f"## Model diff: {diff.conclusion}",
        f"Version {diff.version} of `{diff.name}` (commit {diff.commit}) against the champion, {diff.champion}.",
    ]
    if diff.found is None:
        parts.append("They are the same version: the change makes the same model of the same rows.")
    else:
        found = diff.found
        parts.append(
            table(
                ("rows", "days", loss, "of the champion", "difference [95 %]"),
                [(f"{found.rows:,}", found.days, f"{found.loss:.5f}", f"{found.champion_loss:.5f}", found.worse_by)],
            )
        )
        parts.append(
            table(
                ("slice that moved", "rows", "days", f"difference in {loss}"),
                [(f"{one.dimension} {one.value}", f"{one.rows:,}", one.days, one.worse_by) for one in found.moved],
            )
            if found.moved
            else "No slice is shown to have moved."
        )
    parts += [
        f"{what}: {', '.join(f'`{name}`' for name in names)}."
        for what, names in (("New features", diff.new_columns), ("Features that are gone", diff.lost_columns))
        if names
    ]
    parts.append(
        f"The champion's {golden.requests} golden requests: {golden.failed}"
        if golden.failed
        else f"The champion's {golden.requests} golden requests: {golden.differ} answers differ, by {golden.mean:.4g} "
        f"on average and {golden.furthest:.4g} at most."
    )
    parts.append(
        "Days that neither model has seen, in three folds before the holdout; bounds hold 95 % of resampled days and "
        "fits. The holdout, and so the gate, comes after the merge."
    )
    return "\n\n".join(parts) + "\n"
