"""Placement without a cluster: seats, the packing and its proofs, what a refusal says."""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("ray")

from cluster.ray.nodes import GPU_MEMORY, Node, check_selectors
from cluster.ray.packing import UNIT, Bundle, Layout, Place, pack
from cluster.ray.placement import Placement
from cluster.ray.refusal import TASKS, why_not
from cluster.ray.runner import RayRunner
from cluster.ray.seats import Seating
from cluster.ray.watched import Watched
from cluster.runners.local import LocalRunner
from schemas.engine import EngineSpec, ScriptedSpec, VllmSpec
from schemas.errors import BadInput, ClusterLost


def node(name: str = "a", gpus: float = 8, cpus: float = 64, kind: str = "H100", **labels: str) -> Node:
    return Node(name, name, cpus, gpus, labels, (kind,))


def spec(**fields: Any) -> ScriptedSpec:
    return ScriptedSpec.model_validate(fields)


def fit(nodes: Sequence[Node], *specs: EngineSpec) -> Layout | None:
    seating = Seating()
    seating.add(specs)
    return pack(nodes, seating.places)


def prove(nodes: Sequence[Node], places: Sequence[Place], layout: Layout) -> None:
    """See that a layout is one, from nothing but what it says."""
    cpus = dict.fromkeys(range(len(nodes)), 0)
    gpus: dict[tuple[int, int], int] = {}
    for place, spots in zip(places, layout, strict=True):
        for bundle, spot in zip(place.bundles, spots, strict=True):
            there = nodes[spot.node]
            assert there.satisfies(place.labels)
            assert not place.gpu_memory or (there.gpu_memory or 0) >= place.gpu_memory
            cpus[spot.node] += round(bundle.cpus * UNIT)
            amount = round(bundle.gpus * UNIT)
            assert len(set(spot.gpus)) == len(spot.gpus) == -(-amount // UNIT)
            for at in spot.gpus:
                assert at < there.gpus
                gpus[spot.node, at] = gpus.get((spot.node, at), 0) + min(UNIT, amount)
        if any(place.fits(there) for there in nodes):
            assert len({spot.node for spot in spots}) <= 1, "it could lie on one node"
    assert all(used <= round(nodes[at].cpus * UNIT) for at, used in cpus.items())
    assert all(used <= UNIT for used in gpus.values())


NODES = st.lists(
    st.builds(
        Node,
        st.just("n"),
        st.just("n"),
        st.integers(0, 12).map(float),
        st.integers(0, 8).map(float),
        st.fixed_dictionaries({}, optional={"zone": st.sampled_from("ab")}),
        st.sampled_from([(), ("H100",), ("A100",), ("Nobody-Knows",)]),
    ),
    max_size=5,
)
BUNDLES = st.builds(Bundle, st.sampled_from([0.5, 1.0, 2.0]), st.sampled_from([0.0, 0.25, 0.4, 0.5, 1.0, 2.0]))
PLACES = st.lists(
    st.builds(
        Place,
        st.tuples(BUNDLES, st.integers(1, 10)).map(lambda both: (both[0],) * both[1]),
        st.sampled_from([{}, {"zone": "a"}, {"zone": "!a"}, {"zone": "in(a,b)"}]),
        st.sampled_from([0.0, 40.0, 80.0]),
    ),
    max_size=6,
)


@given(NODES, PLACES)
@settings(max_examples=400, deadline=None)
def test_what_is_accepted_can_be_laid_out(nodes: list[Node], places: list[Place]) -> None:
    layout = pack(nodes, places)
    if layout is not None:
        prove(nodes, places, layout)


@given(
    st.lists(st.tuples(st.integers(0, 4), st.sampled_from(["a", "b"])), min_size=1, max_size=3),
    st.lists(st.tuples(st.integers(1, 4), st.sampled_from([{}, {"zone": "a"}, {"zone": "b"}])), max_size=5),
)
@settings(max_examples=400, deadline=None)
def test_nothing_is_refused_that_fits(sizes: list[tuple[int, str]], wanted: list[tuple[int, dict[str, str]]]) -> None:
    """Against trying all assignments of replicas to nodes."""
    nodes = [Node(str(at), str(at), 99.0, float(size), {"zone": zone}) for at, (size, zone) in enumerate(sizes)]
    places = [Place((Bundle(0.0, 1.0),) * ranks, labels) for ranks, labels in wanted]
    if not all(any(place.fits(there) for there in nodes) for place in places):
        return  # those may span nodes
    possible = any(
        all(nodes[at].satisfies(place.labels) for place, at in zip(places, ats, strict=True))
        and all(
            sum(len(place.bundles) for place, at in zip(places, ats, strict=True) if at == n) <= there.gpus
            for n, there in enumerate(nodes)
        )
        for ats in itertools.product(range(len(nodes)), repeat=len(places))
    )
    assert (pack(nodes, places) is not None) == possible


def test_replicas_lie_on_one_node_each_and_span_nodes_only_where_none_is_large_enough() -> None:
    nodes = [node(name) for name in "abcd"]
    layout = fit(nodes, spec(size=8, gpus=1, replicas=4))
    assert layout is not None
    assert sorted([spot.node for spot in spots] for spots in layout) == [[at] * 8 for at in range(4)]
    assert fit(nodes, spec(size=8, gpus=1, replicas=5)) is None
    wide = fit(nodes, spec(size=16, gpus=1, replicas=2))
    assert wide is not None
    assert all(len({spot.node for spot in spots}) == 2 for spots in wide)
    assert fit(nodes, spec(size=6, gpus=1, replicas=5)) is None, "two GPUs are left on each, but a replica isn't split"


def test_small_engines_leave_whole_nodes_to_large_ones() -> None:
    nodes = [node(name) for name in "abcd"]
    specs = [spec(model="small", gpus=1, replicas=8), spec(model="half", gpus=0.5, replicas=16)]
    assert fit(nodes, *specs, spec(size=8, gpus=1, replicas=2)) is not None
    assert fit(nodes, *specs, spec(size=8, gpus=1, replicas=3)) is None


def test_a_fraction_is_of_one_gpu() -> None:
    assert fit([node(gpus=1)], spec(gpus=0.4, replicas=2)) is not None
    assert fit([node(gpus=1)], spec(gpus=0.4, replicas=3)) is None
    assert fit([node(gpus=2)], spec(gpus=0.4, replicas=3)) is not None


def test_cpus_count_too() -> None:
    assert fit([node(cpus=9)], spec(size=8, gpus=1)) is not None
    assert fit([node(cpus=8)], spec(size=8, gpus=1)) is None, "the worker itself needs one"


def test_labels_and_memory() -> None:
    nodes = [node("a", kind="A100", zone="x"), node("h", zone="y"), node("q", kind="GeForce-RTX-5090", zone="y")]
    for wanted, number in [
        ({"labels": {"zone": "x"}}, 0),
        ({"labels": {"zone": "!x"}, "gpu_memory": 80}, 1),
        ({"gpu_memory": 80}, 1),
    ]:
        layout = fit(nodes, spec(gpus=1, **wanted))
        assert layout is not None
        assert layout[0][0].node == number
    assert fit(nodes, spec(gpus=1, gpu_memory=81)) is None
    assert node(kind="A100").gpu_memory == 40
    assert Node("a", "a", 1, 8, {"gristmill/gpu-memory": "79.6"}, ("A100",)).gpu_memory == 79.6
    assert Node("a", "a", 1, 8, {"gristmill/gpu-memory": "much"}, ("A100", "A100-80G")).gpu_memory == 80


def test_the_memory_of_every_gpu_that_ray_names_is_known() -> None:
    from ray.util.accelerators import accelerators

    names = {value for name, value in vars(accelerators).items() if name.startswith(("NVIDIA", "AMD_INSTINCT"))}
    assert names <= GPU_MEMORY.keys()


@pytest.mark.parametrize(
    ("selector", "chosen"),
    [("a", "a"), ("!a", "bc-"), ("in(a,b)", "ab"), ("in(a, b)", "ab"), ("!in(a, b)", "c-"), ("", "")],
)
def test_label_selectors_mean_what_they_mean_to_ray(selector: str, chosen: str) -> None:
    nodes = {"a": {"zone": "a"}, "b": {"zone": "b"}, "c": {"zone": "c"}, "-": {}}
    found = [name for name, labels in nodes.items() if Node(name, name, labels=labels).satisfies({"zone": selector})]
    assert "".join(found) == chosen


@pytest.mark.parametrize("labels", [{"zone": "in()"}, {"zone": "a b"}, {"zone": "a,b"}, {"zo ne": "a"}, {"zone": "!"}])
def test_malformed_selectors_are_refused(labels: dict[str, str]) -> None:
    with pytest.raises(BadInput, match="no label selector"):
        check_selectors(labels)


# -- seats ---------------------------------------------------------------------------------------------------------


def seated(*specs: EngineSpec) -> Seating:
    seating = Seating()
    seating.add(specs)
    return seating


def test_engines_that_take_turns_share_places() -> None:
    policy = spec(model="policy", size=2, gpus=1, replicas=2, takes_turns="t")
    reward = spec(model="reward", size=2, gpus=1, replicas=2, takes_turns="t")
    seating = seated(policy, spec(model="other", gpus=1), reward)
    assert len(seating.places) == 3
    for number in range(2):
        seats = [seating.seat(each, number) for each in (policy, reward)]
        assert seats[0].place == seats[1].place
        assert [seat.rank_gpus for seat in seats] == [0.5, 0.5]
    assert seating.seat(policy, 0).place != seating.seat(policy, 1).place


def test_smaller_engines_of_a_turn_sit_side_by_side_in_the_places_of_the_largest() -> None:
    policy = spec(model="policy", size=4, gpus=1, replicas=2, takes_turns="t")
    reward = spec(model="reward", gpus=1, replicas=7, takes_turns="t")
    seating = seated(policy, reward)
    assert [len(place.bundles) for place in seating.places] == [4, 4]
    assert sum(bundle.gpus for place in seating.places for bundle in place.bundles) == 8
    seats = [seating.seat(reward, number) for number in range(7)]
    assert len({(seat.place, seat.first) for seat in seats}) == 7
    assert [seat.place for seat in seats[:2]] == [0, 1]


@given(st.lists(st.tuples(st.integers(1, 8), st.integers(1, 9), st.sampled_from([0.5, 1.0])), min_size=1, max_size=4))
def test_the_shares_of_a_turn_fit_their_bundles(members: list[tuple[int, int, float]]) -> None:
    specs = [
        spec(model=str(at), size=size, replicas=replicas, gpus=gpus, cpus=at + 1, takes_turns="t")
        for at, (size, replicas, gpus) in enumerate(members)
    ]
    seating = seated(*specs)
    used: dict[tuple[int, int], list[float]] = {}
    mine: set[tuple[str, int, int]] = set()
    for seat in seating.seats:
        for rank in range(seat.first, seat.first + seat.spec.ranks):
            cpus = seat.worker_cpus if rank == seat.first else 0.0
            total = used.setdefault((seat.place, rank), [0.0, 0.0])
            total[0] += cpus
            total[1] += seat.rank_gpus
            assert isinstance(seat.spec, ScriptedSpec)
            key = (seat.spec.model, seat.place, rank)
            assert key not in mine, "two replicas of one engine on the same GPU"
            mine.add(key)
    for (place, rank), (cpus, gpus) in used.items():
        bundle = seating.places[place].bundles[rank]
        assert cpus <= bundle.cpus + 1e-9
        assert gpus <= bundle.gpus + 1e-9


def test_stages_with_equal_engines_have_seats_of_their_own() -> None:
    engine = spec(gpus=1, replicas=2)
    seating = seated(engine, engine)
    assert len(seating.places) == 4
    first = seating.seat(engine, 0)
    first.taken = True
    second = seating.seat(engine, 0)
    assert second.place != first.place
    first.taken = False
    assert seating.seat(engine, 0) is first, "a replica that starts again sits where it sat"


def test_data_parallel_groups_are_counted_and_left_to_vllm() -> None:
    engine = VllmSpec(model="m", tensor_parallel=2, data_parallel=4)
    [place] = seated(engine).places
    assert place.held == 1
    assert sum(bundle.gpus for bundle in place.bundles) == 8
    assert fit([node("a"), node("b")], engine) is not None
    spread = VllmSpec(model="m", tensor_parallel=8, data_parallel=2, engine_kwargs={"data_parallel_size_local": 1})
    assert [place.held for place in seated(spread).places] == [1, 0]
    assert fit([node("a"), node("b")], spread) is not None
    assert fit([node("a")], spread) is None


@pytest.mark.parametrize(
    ("specs", "text"),
    [
        ([spec(gpus=1.5)], "above one, GPUs are whole"),
        ([spec(gpus=2, takes_turns="t")], "at most one GPU for each rank"),
        ([VllmSpec(model="m", data_parallel=2, takes_turns="t")], "can't take turns"),
        ([spec(takes_turns="t", labels={"z": "a"}), spec(takes_turns="t", labels={"z": "b"})], "labels can't differ"),
    ],
)
def test_what_can_be_had_nowhere_is_refused(specs: list[EngineSpec], text: str) -> None:
    with pytest.raises(BadInput, match=text):
        seated(*specs)


def test_the_local_runner_has_no_ranks() -> None:
    with pytest.raises(BadInput, match=r"'big' has 8 ranks .* needs --runner ray"):
        LocalRunner().check([ScriptedSpec(), ScriptedSpec(model="big", size=8)])


# -- what a refusal says -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("specs", "nodes", "texts"),
    [
        (
            [VllmSpec(model="big", tensor_parallel=8, replicas=2, gpu_memory=80)],
            [node("10.0.0.1"), node("10.0.0.2", gpus=4)],
            [
                "engine vllm 'big' wants 2 replicas, each with 8 x 1 GPU of at least 80 GB and 9 CPU",
                "there is room for 1: too few GPUs",
                "10.0.0.1: 8 x H100 (80 GB), 64 CPUs",
                "Lower engine.replicas or engine.tensor_parallel or engine.gpu_memory",
                "GRISTMILL_NODES_MAY_JOIN=1",
            ],
        ),
        (
            [spec(gpus=1, gpu_memory=100)],
            [node("h"), node("x", kind="GeForce-RTX-5090")],
            ["no node has GPUs that large", "GPUs of x are", "--labels gristmill/gpu-memory=GB"],
        ),
        (
            [spec(gpus=1, labels={"zone": "west"})],
            [node("a", zone="east"), node("b", zone="east")],
            ["on nodes with zone=west, but no node has these labels", "2 nodes (a, b), each 8 x H100", "zone=east"],
        ),
        ([spec(cpus=100)], [node()], ["wants 1 replica with 100 CPU", "room for 0: too few CPUs", "engine.cpus"]),
        (
            [spec(model="a", gpus=1, replicas=5), spec(model="b", gpus=1, replicas=5)],
            [node()],
            ["not together", "'a' wants 5", "'b' wants 5", "engine.takes_turns"],
        ),
        (
            [spec(size=6, gpus=1, replicas=3)],
            [node("a"), node("b")],
            ["room for 2: too few GPUs (a replica that one node could hold isn't spread"],
        ),
    ],
)
def test_a_refusal_says_what_is_wanted_what_there_is_and_what_to_change(
    specs: list[EngineSpec], nodes: list[Node], texts: list[str]
) -> None:
    assert pack(nodes, [*seated(*specs).places, TASKS]) is None
    message = why_not(nodes, specs)
    assert [text for text in texts if text not in message] == [], message


def test_a_thousand_replicas_are_laid_out_soon() -> None:
    nodes = [node(str(at)) for at in range(200)]
    assert fit(nodes, spec(gpus=1, replicas=1000), spec(size=8, gpus=1, replicas=75)) is not None
    assert fit(nodes, spec(gpus=1, replicas=1000), spec(size=8, gpus=1, replicas=76)) is None


def test_nobody_asks_after_a_cluster_that_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray gives whoever asks when it is gone another cluster, that of somebody else on the machine."""
    asked: list[object] = []
    placement, runner = Placement(patience=0.02), RayRunner()
    group = SimpleNamespace(handle="group", holds=[])
    monkeypatch.setattr(placement, "_groups", {0: group})
    monkeypatch.setattr("cluster.ray.placement.placement_group_table", lambda handle: asked.append(handle) or {})
    monkeypatch.setattr(runner, "_placement", placement)
    monkeypatch.setattr(runner, "_watched", SimpleNamespace(gone=["raylet"], end_all=lambda: None))
    runner.close()
    watching = threading.Thread(target=placement._watch)  # pyright: ignore[reportPrivateUsage]
    watching.start()
    watching.join(10)
    assert not watching.is_alive() and not asked
    assert os.environ["RAY_ENABLE_AUTO_CONNECT"] == "0"


def test_a_question_to_a_cluster_that_dies_meanwhile_is_not_waited_for() -> None:
    """Ray itself would end this process after a minute."""
    asked, never = threading.Event(), threading.Event()

    def question() -> None:
        asked.set()
        never.wait()

    process: Any = SimpleNamespace(poll=lambda: 1 if asked.is_set() else None)
    watched = Watched(processes={"gcs_server": process})
    with pytest.raises(ClusterLost, match="gcs_server ended"):
        watched.answer(question)
    never.set()
    with pytest.raises(ClusterLost, match="the same command goes on"):
        watched.answer(lambda: pytest.fail("nobody is there to be asked"))
    asked.clear()
    assert watched.answer(lambda: 7) == 7
    with pytest.raises(ValueError, match="no such thing"):
        watched.answer(lambda: int("no such thing"))
