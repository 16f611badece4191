"""What happens next to a challenger: every outcome of a step has its reason, and nothing measured never goes on."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.contexts import ROLLOUT

from flight_delays.core.rollout import Action, Decided, Entry, Finding, Rollout, Signal, decide, state_of

GOOD, WORSE, UNKNOWN, INVALID = Signal
START = datetime(2026, 1, 1, tzinfo=UTC)
STAGES = ROLLOUT.rollout_stages


def after(minutes: float) -> datetime:
    return START + timedelta(minutes=minutes)


def found(*signals: Signal) -> list[Finding]:
    return [Finding(name=f"clock_{at}", signal=signal, reason="said so") for at, signal in enumerate(signals)]


def rollout(percentage: int = 5, **change: object) -> Rollout:
    return replace(Rollout(step=3, begun=after(0), percentage=percentage, since=START, served=True), **change)


def entry(step: int, action: Action, percentage: int = 0, minutes: float = 0) -> Entry:
    return Entry(step=step, action=action, percentage=percentage, at=after(minutes))


@pytest.mark.parametrize(
    ("signals", "minutes", "action", "percentage", "reason"),
    [
        ([], 60, Action.HOLD, 5, "nothing was measured"),
        ([UNKNOWN], 60, Action.HOLD, 5, "not everything is known"),
        ([GOOD, UNKNOWN], 60, Action.HOLD, 5, "not everything is known"),
        ([GOOD, GOOD], 59.9, Action.HOLD, 5, "good so far; the next stage is due at 2026-01-01 01:00 UTC"),
        ([GOOD, GOOD], 60, Action.ADVANCE, 25, "GOOD clock_0: said so"),
        ([GOOD], 72 * 60 + 1, Action.ADVANCE, 25, "GOOD clock_0: said so"),
        ([UNKNOWN], 72 * 60 - 1, Action.HOLD, 5, "not everything is known"),
        ([UNKNOWN], 72 * 60, Action.ASK, 5, "undecided for 72 hours at 5 %"),
        ([], 72 * 60, Action.ASK, 5, "undecided for 72 hours at 5 %"),
        ([GOOD, INVALID], 1, Action.ASK, 5, "what was measured can't be trusted"),
        ([GOOD, WORSE], 1, Action.ROLL_BACK, 0, "WORSE clock_1: said so"),
        ([INVALID, UNKNOWN, WORSE], 72 * 60, Action.ROLL_BACK, 0, "WORSE clock_2: said so"),
    ],
)
def test_a_step_follows_from_what_the_clocks_found_and_how_long_the_stage_took(
    signals: list[Signal], minutes: float, action: Action, percentage: int, reason: str
) -> None:
    decided = decide(rollout(), found(*signals), ROLLOUT, after(minutes))
    assert (decided.action, decided.percentage, decided.reasons[0]) == (action, percentage, reason)
    assert set(map(str, found(*signals))) <= {*decided.reasons}


@pytest.mark.parametrize(
    ("change", "signal", "action", "reason"),
    [
        ({"paused": True}, GOOD, Action.HOLD, "paused; resume it to go on"),
        ({"paused": True}, INVALID, Action.HOLD, "paused; resume it to go on"),
        ({"paused": True}, WORSE, Action.ROLL_BACK, "WORSE clock_0: said so"),
        ({"asked": True}, GOOD, Action.HOLD, "waits for a person: resume, promote or roll back"),
        ({"asked": True}, UNKNOWN, Action.HOLD, "waits for a person: resume, promote or roll back"),
        ({"asked": True}, WORSE, Action.ROLL_BACK, "WORSE clock_0: said so"),
    ],
)
def test_who_paused_or_was_asked_decides_except_that_what_is_worse_goes(
    change: dict[str, object], signal: Signal, action: Action, reason: str
) -> None:
    decided = decide(rollout(**change), found(signal), ROLLOUT, after(10_000))
    assert (decided.action, decided.reasons[0]) == (action, reason)


@pytest.mark.parametrize(
    ("minutes", "signal", "action", "reason"),
    [
        (2_879, GOOD, Action.HOLD, "A/B test until 2026-01-03 00:00 UTC"),
        (2_879, UNKNOWN, Action.HOLD, "A/B test until 2026-01-03 00:00 UTC"),
        (2_880, GOOD, Action.ASK, "the A/B test is over"),
        (2_880, UNKNOWN, Action.ASK, "the A/B test is over"),
        (1, WORSE, Action.ROLL_BACK, "WORSE clock_0: said so"),
        (1, INVALID, Action.ASK, "what was measured can't be trusted"),
    ],
)
def test_an_ab_test_keeps_its_share_until_it_is_over_and_then_a_person_decides(
    minutes: float, signal: Signal, action: Action, reason: str
) -> None:
    decided = decide(rollout(percentage=20, test_until=after(2_880)), found(signal), ROLLOUT, after(minutes))
    assert (decided.action, decided.reasons[0]) == (action, reason)
    assert decided.percentage == (0 if action is Action.ROLL_BACK else 20)


@pytest.mark.parametrize(
    ("later", "until"),
    [
        ([Action.PAUSE, Action.RESUME], after(2_880)),
        ([Action.ASK, Action.RESUME], None),
        ([Action.ADVANCE], None),
    ],
    ids=["paused and resumed", "over, and the rollout goes on", "another share was adopted"],
)
def test_an_ab_test_is_part_of_its_rollout(later: list[Action], until: datetime | None) -> None:
    begin = [entry(0, Action.START), entry(1, Action.SERVE), replace(entry(2, Action.AB_TEST, 20), until=after(2_880))]
    rows = [*begin, entry(3, Action.SERVE, 20), *(entry(4 + at, action, 25) for at, action in enumerate(later))]
    assert state_of(rows[:4]).test_until == after(2_880)
    assert state_of(rows[:4]).percentage == 20
    assert state_of(rows).test_until == until


def test_what_may_be_known_later_says_when() -> None:
    finding = Finding(name="payloads", signal=UNKNOWN, reason="no row yet", earliest=after(90))
    assert str(finding) == "UNKNOWN payloads: no row yet; known at 2026-01-01 01:30 UTC at the earliest"
    assert str(finding) in decide(rollout(), [finding], ROLLOUT, after(1)).reasons


@pytest.mark.parametrize(
    ("percentage", "needed_for", "action", "share"),
    [
        (5, 26, Action.ADVANCE, 25),
        (5, 25, Action.HOLD, 5),
        (5, 24, Action.HOLD, 5),
        (25, 100, Action.ADVANCE, 50),
        (50, 100, Action.HOLD, 50),
        (10, 25, Action.HOLD, 10),
    ],
)
def test_what_is_unknown_holds_back_only_the_shares_that_need_it(
    percentage: int, needed_for: int, action: Action, share: int
) -> None:
    slow = Finding(name="quality", signal=UNKNOWN, reason="too few days", needed_for=needed_for)
    decided = decide(rollout(percentage), [*found(GOOD), slow], ROLLOUT, after(60))
    assert (decided.action, decided.percentage) == (action, share)
    assert str(slow) in decided.reasons


@pytest.mark.parametrize(
    ("signal", "action"),
    [(GOOD, Action.ADVANCE), (UNKNOWN, Action.HOLD), (WORSE, Action.ROLL_BACK), (INVALID, Action.ASK)],
)
def test_what_is_not_needed_yet_counts_once_it_is_known_but_never_goes_on_alone(signal: Signal, action: Action) -> None:
    slow = Finding(name="quality", signal=signal, reason="said so", needed_for=100)
    assert decide(rollout(5), [slow], ROLLOUT, after(60)).action is action


@pytest.mark.parametrize(
    ("limit_hours", "hours", "others", "action"),
    [
        (1_000, 999, [GOOD], Action.HOLD),
        (1_000, 1_000, [GOOD], Action.ASK),
        (1_000, 1_001, [GOOD], Action.ASK),
        (1_000, 72, [GOOD, UNKNOWN], Action.ASK),
        (10, 71, [GOOD], Action.HOLD),  # resumed after its own limit: a stage more
        (10, 72, [GOOD], Action.ASK),
        (1_000, 72, [], Action.HOLD),
    ],
)
def test_what_is_unknown_within_its_own_limit_does_not_ask(
    limit_hours: int, hours: int, others: list[Signal], action: Action
) -> None:
    limit = after(60 * limit_hours)
    slow = Finding(name="quality", signal=UNKNOWN, reason="too few days", needed_for=100, limit=limit)
    assert decide(rollout(50), [*found(*others), slow], ROLLOUT, after(60 * hours)).action is action


@pytest.mark.parametrize(
    ("when_undecided", "hours", "action", "percentage", "reason"),
    [
        ("ask", 72, Action.ASK, 5, "undecided for 72 hours at 5 %"),
        ("roll_back", 71, Action.HOLD, 5, "not everything is known"),
        ("roll_back", 72, Action.ROLL_BACK, 0, "undecided for 72 hours at 5 %"),
        ("roll_back", 73, Action.ROLL_BACK, 0, "undecided for 73 hours at 5 %"),
    ],
)
def test_the_policy_says_what_becomes_of_what_stays_undecided(
    when_undecided: str, hours: int, action: Action, percentage: int, reason: str
) -> None:
    policy = replace(ROLLOUT, when_undecided=when_undecided)
    decided = decide(rollout(), found(UNKNOWN), policy, after(60 * hours))
    assert (decided.action, decided.percentage, decided.reasons[0]) == (action, percentage, reason)


def test_a_good_challenger_goes_through_all_stages_and_is_promoted_at_the_last() -> None:
    entries, now = [entry(0, Action.START, STAGES[0]), entry(1, Action.SERVE, STAGES[0])], START
    while not (state := state_of(entries)).ended:
        now += timedelta(minutes=ROLLOUT.rollout_stage_minutes)
        decided = decide(state, found(GOOD), ROLLOUT, now)
        for step, action in enumerate((decided.action, Action.SERVE), state.step + 1):
            entries.append(Entry(step=step, action=action, percentage=decided.percentage, at=now))
    assert [one.percentage for one in entries[::2]] == list(STAGES)
    assert [one.action for one in entries[::2]] == [Action.START, *[Action.ADVANCE] * 4, Action.PROMOTE]


def test_a_share_that_is_no_stage_goes_to_the_next_larger_stage() -> None:
    assert decide(rollout(10), found(GOOD), ROLLOUT, after(60)).percentage == 25


@pytest.mark.parametrize(
    ("entries", "state"),
    [
        ([], Rollout(step=0, begun=after(0), percentage=0, since=after(0))),
        ([entry(1, Action.HOLD, 0, 5)], Rollout(step=1, begun=after(0), percentage=0, since=after(0))),
        ([entry(1, Action.ADVANCE, 1, 5)], Rollout(step=1, begun=after(0), percentage=1, since=after(5))),
        ([entry(1, Action.PAUSE, 0, 5)], Rollout(step=1, begun=after(0), percentage=0, since=after(0), paused=True)),
        ([entry(1, Action.ASK, 0, 5)], Rollout(step=1, begun=after(0), percentage=0, since=after(0), asked=True)),
        ([entry(1, Action.SERVE, 0, 5)], Rollout(step=1, begun=after(0), percentage=0, since=after(5), served=True)),
        (
            [entry(1, Action.SERVE, 0, 5), entry(2, Action.ADVANCE, 1, 6)],
            Rollout(step=2, begun=after(0), percentage=1, since=after(6), served=False),
        ),
        (
            [entry(1, Action.ROLL_BACK, 0, 5), entry(2, Action.SERVE, 0, 6)],
            Rollout(step=2, begun=after(0), percentage=0, since=after(6), served=True, ended=Action.ROLL_BACK),
        ),
        (
            [entry(1, Action.PAUSE, 0, 5), entry(2, Action.ASK, 0, 6), entry(3, Action.RESUME, 0, 7)],
            Rollout(step=3, begun=after(0), percentage=0, since=after(7)),
        ),
        (
            [entry(1, Action.ADVANCE, 50, 5), entry(2, Action.PROMOTE, 100, 9)],
            Rollout(step=2, begun=after(0), percentage=100, since=after(9), ended=Action.PROMOTE),
        ),
        (
            [entry(1, Action.PAUSE, 0, 5), entry(2, Action.ROLL_BACK, 0, 9)],
            Rollout(step=2, begun=after(0), percentage=0, since=after(9), paused=True, ended=Action.ROLL_BACK),
        ),
    ],
)
def test_the_state_of_a_rollout_is_its_rows_in_any_order(entries: list[Entry], state: Rollout) -> None:
    started = [entry(0, Action.START), *entries]
    assert state_of(started) == state_of(started[::-1]) == state


@pytest.mark.parametrize(
    "entries",
    [
        [entry(0, Action.HOLD)],
        [entry(1, Action.START)],
        [entry(0, Action.START), entry(2, Action.HOLD)],
        [entry(0, Action.START), entry(1, Action.HOLD), entry(1, Action.HOLD)],
        [entry(0, Action.START), entry(1, Action.ROLL_BACK), entry(2, Action.HOLD)],
        [entry(0, Action.START), entry(1, Action.ROLL_BACK), entry(2, Action.SERVE), entry(3, Action.SERVE)],
    ],
    ids=["no start", "a late start", "a gap", "a step twice", "a step after the end", "served twice after the end"],
)
def test_rows_that_are_no_rollout_are_refused(entries: list[Entry]) -> None:
    with pytest.raises(ValueError, match="rollout"):
        state_of(entries)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"ended": Action.PROMOTE}, "the rollout has ended by PROMOTE"),
        ({"served": False}, "its share is not served yet"),
    ],
)
def test_a_rollout_that_has_ended_or_is_not_served_takes_no_step(change: dict[str, object], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        decide(rollout(**change), found(GOOD), ROLLOUT, START)


ROLLOUTS = st.builds(rollout, st.sampled_from(STAGES[:-1]), paused=st.booleans(), asked=st.booleans())


@given(ROLLOUTS, st.lists(st.sampled_from(Signal), max_size=5), st.integers(0, 10_000))
def test_more_requests_are_only_ever_given_where_all_is_measured_and_good(
    state: Rollout, signals: list[Signal], minutes: int
) -> None:
    decided: Decided = decide(state, found(*signals), ROLLOUT, after(minutes))
    goes_on = set(signals) == {GOOD} and not state.paused and not state.asked and minutes >= 60
    assert (decided.percentage > state.percentage) == goes_on
    assert (decided.action is Action.ROLL_BACK) == (WORSE in signals)
    assert decided.reasons
    assert decided.percentage in (0, state.percentage) or goes_on


@given(ROLLOUTS, st.lists(st.sampled_from(Signal), max_size=5), st.integers(0, 10_000))
def test_each_step_that_is_decided_can_be_written_and_read_back(
    state: Rollout, signals: list[Signal], minutes: int
) -> None:
    decided = decide(state, found(*signals), ROLLOUT, after(minutes))
    rows = [
        entry(0, Action.START, state.percentage),
        Entry(step=1, action=decided.action, percentage=decided.percentage, at=after(minutes)),
    ]
    assert state_of(rows).percentage == decided.percentage
