"""The order in which deployments change and traffic moves, so that no request is lost."""

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flight_delays.core.traffic_steps import Await, Deployed, Release, Run, Scale, Share, Step, Weigh, after, plan


def release(version: int) -> Release:
    return Release(model_name="dev.flights.delay", model_version=version, image=f"delay@sha256:{version}")


def runs(version: int, weight: int = 0, pods: int = 4) -> Deployed:
    return Deployed(release=release(version), pods=pods, available=pods, weight=weight, least=2, most=10)


def starting(version: int, weight: int = 0) -> Deployed:
    return Deployed(release=release(version), pods=4, available=0, settled=False, weight=weight, least=2, most=10)


def wanted(champion: int, challenger: int | None = None, percentage: int = 0) -> Mapping[str, Share]:
    one = {"champion": Share(release=release(champion), percentage=100 - percentage)}
    if challenger is None:
        return one
    return {**one, "challenger": Share(release=release(challenger), percentage=percentage)}


IDLE = Deployed(least=2, most=10)
NEW, OLD = "challenger", "champion"


def run(name: str, version: int, pods: int) -> Run:
    return Run(name=name, release=release(version), pods=pods)


def ready(name: str, pods: int) -> Await:
    return Await(name=name, pods=pods)


def weigh(champion: int) -> Weigh:
    return Weigh(champion=champion, challenger=100 - champion)


STOP = Scale(name=NEW, pods=0)


@pytest.mark.parametrize(
    ("champion", "challenger", "target", "steps"),
    [
        pytest.param(IDLE, IDLE, wanted(1), [run(OLD, 1, 2), ready(OLD, 2), weigh(100)], id="first release"),
        pytest.param(runs(1, 100), IDLE, wanted(1), [], id="serves already"),
        pytest.param(
            runs(1, 100), IDLE, wanted(1, 2, 10), [run(NEW, 2, 2), ready(NEW, 2), weigh(90)], id="rollout begins"
        ),
        pytest.param(
            runs(1, 90), runs(2, 10, pods=2), wanted(1, 2, 50),
            [Scale(name=NEW, pods=3), ready(NEW, 3), weigh(50)], id="rollout advances: pods first",
        ),
        pytest.param(runs(1, 100), IDLE, wanted(1, 2), [run(NEW, 2, 2), ready(NEW, 1)], id="a shadow has no traffic"),
        pytest.param(
            runs(1, 50), runs(2, 50), wanted(2),
            [Scale(name=NEW, pods=8), ready(NEW, 8), weigh(0), run(OLD, 2, 8), ready(OLD, 8), weigh(100), STOP],
            id="promotion: the challenger carries all while the champion changes",
        ),
        pytest.param(
            runs(1, 100), IDLE, wanted(3),
            [run(NEW, 3, 4), ready(NEW, 4), weigh(0), run(OLD, 3, 4), ready(OLD, 4), weigh(100), STOP],
            id="promotion past the rollout",
        ),
        pytest.param(
            runs(1, 90), runs(2, 10, pods=2), wanted(1),
            [Scale(name=OLD, pods=6), ready(OLD, 6), weigh(100), STOP], id="roll back",
        ),
        pytest.param(
            starting(2), runs(2, 100), wanted(2), [ready(OLD, 4), weigh(100), STOP], id="killed in a promotion"
        ),
        pytest.param(
            starting(2), runs(2, 100), wanted(1), [run(OLD, 1, 4), ready(OLD, 4), weigh(100), STOP],
            id="killed in a promotion, then rolled back",
        ),
        pytest.param(runs(1, 100), starting(2), wanted(1), [STOP], id="a challenger that never got ready goes"),
        pytest.param(
            runs(1, 90), runs(2, 10, pods=2), wanted(1, 3, 10),
            [
                Scale(name=OLD, pods=6), ready(OLD, 6), weigh(100), run(NEW, 3, 2), ready(NEW, 2), weigh(90),
            ],
            id="another challenger: the champion carries all meanwhile",
        ),
        pytest.param(
            runs(1, 50), runs(2, 50), wanted(3),
            [
                Scale(name=OLD, pods=8), ready(OLD, 8), weigh(100), run(NEW, 3, 8), ready(NEW, 8), weigh(0),
                run(OLD, 3, 8), ready(OLD, 8), weigh(100), STOP,
            ],
            id="neither serves what is wanted",
        ),
        pytest.param(
            Deployed(release=release(1), pods=4, weight=100, least=2, most=10), IDLE, wanted(2),
            [run(OLD, 2, 4), ready(OLD, 1), ], id="a champion that answers nothing changes in place",
        ),
    ],
)  # fmt: skip
def test_steps(champion: Deployed, challenger: Deployed, target: Mapping[str, Share], steps: list[Step]) -> None:
    assert [*plan({OLD: champion, NEW: challenger}, target)] == steps


@pytest.mark.parametrize(("share", "pods"), [(10, 2), (24, 2), (25, 2), (26, 3), (50, 4), (100, 8)])
def test_a_share_of_the_traffic_gets_that_share_of_the_pods_rounded_up(share: int, pods: int) -> None:
    first = plan({OLD: runs(1, 100, pods=8), NEW: IDLE}, wanted(1, 2, share))[0]
    assert first == run(NEW, 2, pods)


@pytest.mark.parametrize(("pods", "most"), [(9, 9), (10, 10), (11, 10)])
def test_no_deployment_gets_more_pods_than_it_may(pods: int, most: int) -> None:
    assert plan({OLD: runs(1, 100, pods=pods), NEW: IDLE}, wanted(2))[0] == run(NEW, 2, most)


@pytest.mark.parametrize(("available", "waits"), [(0, True), (1, False), (7, False)])
def test_pods_that_do_not_come_hold_up_a_roll_back_for_a_while_only(available: int, waits: bool) -> None:
    champion = Deployed(release=release(1), pods=8, available=available, weight=50, least=2, most=10)
    live = {OLD: champion, NEW: runs(2, 50)}
    assert plan(live, wanted(1), pods=8)[0] == ready(OLD, 8)
    first = plan(live, wanted(1), pods=8, enough=frozenset({OLD}))[0]
    assert first == (ready(OLD, 8) if waits else weigh(100))


@st.composite
def deployments(draw: st.DrawFn) -> dict[str, Deployed]:
    share = draw(st.sampled_from([0, 10, 50, 100]))

    def one(weight: int) -> Deployed:
        version, pods = draw(st.sampled_from([None, 1, 2, 3])), draw(st.integers(0, 4))
        return Deployed(
            release=release(version) if version else None,
            pods=pods,
            available=draw(st.integers(0, pods)),
            settled=draw(st.booleans()),
            weight=weight,
            least=2,
            most=4,
        )

    total = draw(st.sampled_from([0, 100]))
    return {OLD: one((100 - share) * total // 100), NEW: one(share * total // 100)}


targets = st.builds(
    lambda champion, challenger, percentage: wanted(champion, challenger, percentage if challenger else 0),
    st.sampled_from([1, 2, 3]), st.sampled_from([None, 1, 2, 3]), st.sampled_from([0, 10, 50, 100]),
)  # fmt: skip


@given(deployments(), targets, st.data())
def test_traffic_goes_only_to_ready_pods_and_those_that_have_it_keep_their_release(
    live: Mapping[str, Deployed], target: Mapping[str, Share], data: st.DataObject
) -> None:
    meant = {share.release for share in target.values()}
    served = {one.release for one in live.values() if one.carries}
    before = {name: one.release for name, one in live.items()}
    steps = plan(live, target)
    for step in steps[: data.draw(st.integers(0, len(steps)))]:
        live_before, live = live, after(live, step)
        match step:
            case Weigh():
                for name, one in live.items():
                    if one.weight:
                        assert one.settled and one.available, (name, steps)
                        assert one.release in meant or (one.release in served and one.release == before[name])
            case Run() | Scale(pods=0):
                assert not live_before[step.name].carries, steps
            case Scale():
                assert step.pods > live_before[step.name].pods
    # Stopped anywhere and planned anew, it ends with the same.
    for step in plan(live, target):
        live = after(live, step)
    assert plan(live, target) == ()
    assert {name: one.weight for name, one in live.items()} == {
        name: target[name].percentage if name in target else 0 for name in (OLD, NEW)
    }
    assert all(live[name].release == share.release and live[name].available for name, share in target.items())
    assert NEW in target or live[NEW].pods == 0
