"""In which steps deployments come to serve what is wanted: at no time without a ready one, and with nothing untried."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from flight_delays.core.deployments import Delete, Deployment, Live, Put, Route, Step, after, plan


def live(champion: str = "", challenger: str = "", mirror: int = 0, **others: str) -> Live:
    """Deployments as "<version>@<percentage>", with a ! behind if it is not ready; "" for none."""
    given = {"champion": champion, "challenger": challenger, **others}
    parts = {name: text.rstrip("!").split("@") for name, text in given.items() if text}
    return Live(
        deployments={
            name: Deployment(runs=version, is_ready="!" not in given[name]) for name, (version, _) in parts.items()
        },
        traffic={name: int(share) for name, (_, share) in parts.items() if share != "0"},
        mirror={"challenger": mirror} if mirror else {},
    )


def to(champion: int = 0, challenger: int = 0, mirror: int = 0) -> Route:
    shares = {name: share for name, share in (("champion", champion), ("challenger", challenger)) if share}
    return Route(traffic=shares, mirror={"challenger": mirror} if mirror else {})


def put(name: str, runs: str) -> Put:
    return Put(name=name, runs=runs)


@pytest.mark.parametrize(
    ("before", "wanted", "steps"),
    [
        pytest.param(live("1@100"), live("1@100"), [], id="nothing to do"),
        pytest.param(live(), live("1@100"), [put("champion", "1"), to(100)], id="the first release"),
        pytest.param(live("1@0"), live("1@100"), [to(100)], id="the first release, killed before its traffic"),
        pytest.param(
            live("1@0!"), live("1@100"), [Delete(name="champion"), put("champion", "1"), to(100)], id="failed"
        ),
        pytest.param(
            live("1@100"),
            live("1@100", "2@0", mirror=50),
            [put("challenger", "2"), to(100, mirror=50)],
            id="a challenger gets copies",
        ),
        pytest.param(live("1@100", "2@0", mirror=50), live("1@95", "2@5"), [to(95, 5)], id="then its first share"),
        pytest.param(live("1@95", "2@5"), live("1@50", "2@50"), [to(50, 50)], id="then more"),
        pytest.param(
            live("1@50", "2@50"), live("1@100"), [to(100), Delete(name="challenger")], id="a challenger rolled back"
        ),
        pytest.param(
            live("1@50", "2@50"),
            live("2@100"),
            [to(0, 100), put("champion", "2"), to(100), Delete(name="challenger")],
            id="a challenger promoted",
        ),
        pytest.param(
            live("1@0", "2@100"),
            live("2@100"),
            [put("champion", "2"), to(100), Delete(name="challenger")],
            id="a challenger promoted that has it all",
        ),
        pytest.param(
            live("2@100"),
            live("1@100"),
            [put("challenger", "1"), to(0, 100), put("champion", "1"), to(100), Delete(name="challenger")],
            id="another champion at once",
        ),
        pytest.param(
            live("1@90", "2@10"),
            live("3@100"),
            [to(100), put("challenger", "3"), to(0, 100), put("champion", "3"), to(100), Delete(name="challenger")],
            id="another champion during a rollout",
        ),
        pytest.param(
            live("9@90", "2@10"),
            live("1@90", "2@10"),
            [
                to(100),
                put("challenger", "1"),
                to(0, 100),
                put("champion", "1"),
                to(100),
                put("challenger", "2"),
                to(90, 10),
            ],
            id="a challenger never has the champion's share",
        ),
        pytest.param(
            live("1@90", "9@10"),
            live("1@90", "2@10"),
            [to(100), put("challenger", "2"), to(90, 10)],
            id="another challenger",
        ),
        pytest.param(
            live("1@100", "2@0!", mirror=50),
            live("1@100", "3@0", mirror=50),
            [to(100), Delete(name="challenger"), put("challenger", "3"), to(100, mirror=50)],
            id="one that failed with copies",
        ),
        pytest.param(
            live("1@50!", "2@50"),
            live("1@100"),
            [to(0, 100), Delete(name="champion"), put("champion", "1"), to(100), Delete(name="challenger")],
            id="a champion that is not ready",
        ),
        pytest.param(
            live("1@60", test="1@40"), live("1@100"), [to(100), Delete(name="test")], id="a deployment of another name"
        ),
    ],
)
def test_the_steps_from_what_is_live_to_what_is_wanted(before: Live, wanted: Live, steps: list[Step]) -> None:
    assert list(plan(before, wanted)) == steps


def test_a_step_says_what_it_does() -> None:
    steps = plan(live("1@100"), live("1@100", "2@0", mirror=50)) + plan(live("1@50", "2@50"), live("1@100"))
    assert list(map(str, steps)) == [
        "deploy challenger",
        "traffic, champion 100 %, challenger a copy of 50 %",
        "traffic, champion 100 %",
        "delete challenger",
    ]


@st.composite
def lives(draw: st.DrawFn) -> Live:
    """Whatever somebody may have left: a third deployment, some that failed, shares of any size, copies."""
    names = draw(st.lists(st.sampled_from(["champion", "challenger", "test"]), unique=True))
    deployments = {
        name: Deployment(runs=draw(st.sampled_from("123")), is_ready=draw(st.integers(0, 3)) > 0) for name in names
    }
    serving = draw(st.lists(st.sampled_from(names), unique=True)) if names else []
    cut = draw(st.integers(1, 99))
    shares = {0: [], 1: [100], 2: [cut, 100 - cut], 3: [cut] + ([100 - cut - 1, 1] if cut < 99 else [1])}[len(serving)]
    traffic = {name: share for name, share in zip(serving, shares, strict=False) if share}
    if traffic and sum(traffic.values()) != 100:
        traffic = {serving[0]: 100}
    copied = [name for name in names if name not in traffic]
    mirror = {copied[0]: 10} if copied and draw(st.booleans()) else {}
    return Live(deployments=deployments, traffic=traffic, mirror=mirror)


@st.composite
def wishes(draw: st.DrawFn) -> Live:
    share = draw(st.one_of(st.none(), st.integers(0, 100)))
    champion = draw(st.sampled_from("123"))
    if share is None:
        return live(f"{champion}@100")
    other = draw(st.sampled_from([each for each in "123" if each != champion]))
    return live(f"{champion}@{100 - share}", f"{other}@{share}", mirror=0 if share else 50)


FAILED = Deployment(runs="1", is_ready=False)


@given(lives(), wishes())
@example(  # only a third deployment is ready
    Live(
        deployments={"champion": FAILED, "challenger": FAILED, "test": Deployment(runs="1")},
        traffic={"champion": 98, "challenger": 1, "test": 1},
    ),
    live("1@100"),
)
def test_from_anywhere_it_gets_there_and_on_the_way_all_traffic_has_a_ready_deployment(before: Live, end: Live) -> None:
    allowed = {before.deployments[name].runs for name in before.traffic} | {end.deployments["champion"].runs}
    some_ready = any(before.deployments[name].is_ready for name in before.traffic)
    now, steps = before, plan(before, end)
    assert len(steps) <= 12
    for place, step in enumerate(steps):
        match step:
            case Put(name=name):
                found = now.deployments.get(name)
                assert name not in now.traffic or (not some_ready and found is not None and not found.is_ready)
            case Delete(name=name):
                assert name not in now.traffic and name not in now.mirror
            case Route(traffic=traffic, mirror=mirror):
                assert sum(traffic.values()) == 100 or traffic == now.traffic
                assert traffic == now.traffic or all(now.deployments[name].is_ready for name in traffic)
                assert not traffic.keys() & mirror.keys()
                assert traffic == end.traffic or {now.deployments[name].runs for name in traffic} <= allowed
        now = after(now, step)
        assert plan(now, end) == steps[place + 1 :]  # whoever is killed here goes on like that
    assert now == end


@given(st.integers(1, 99), wishes())
def test_a_challenger_never_has_more_than_it_had_or_is_to_have(share: int, end: Live) -> None:
    now = live(f"1@{100 - share}", f"2@{share}")
    most = max(share, sum(s for name, s in end.traffic.items() if end.deployments[name].runs == "2"))
    for step in plan(now, end):
        now = after(now, step)
        had = sum(each for name, each in now.traffic.items() if now.deployments[name].runs == "2")
        assert had <= most or end.deployments["champion"].runs == "2"
