"""Where actors will go, foreseen; and Ray's label selectors, read as Ray reads them."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.config import load_config
from cluster.placement_plan import Demand, Node, demands, describe_nodes, plan_placement
from rollout.config import RolloutConfig
from rollout.environment import executor
from rollout.placement import nodes_for
from runtime.errors import ConfigError
from runtime.node_labels import matches, on_nodes
from runtime.session import cluster_address


def learner(count: int, gpus: int = 1, **selector: str) -> Demand:
    return Demand("learner ranks", count, 4, gpus, selector, "learner.ranks")


def rollout(count: int, gpus: int = 1, **selector: str) -> Demand:
    return Demand("rollout replicas", count, 4, gpus, selector, "rollout.replicas")


def machine(name: str, gpus: int = 8, cpus: int = 64, **labels: str) -> Node:
    return Node(name, labels, cpus, gpus)


def counts(nodes: list[Node], *asked: Demand) -> list[tuple[int, ...]]:
    """(learner ranks, rollout replicas) of each node."""
    return [tuple(row.values()) for row in plan_placement(nodes, *asked).placed]


def test_learner_ranks_are_packed_and_replicas_spread() -> None:
    assert counts([machine("a"), machine("b")], learner(4), rollout(4)) == [(4, 2), (0, 2)]
    assert counts([machine("a", gpus=4), machine("b", gpus=8)], learner(8), rollout(2)) == [(0, 2), (8, 0)]
    assert counts([machine(n) for n in "abc"], learner(8), rollout(8)) == [(8, 0), (0, 4), (0, 4)]


def test_selectors_keep_each_to_its_nodes() -> None:
    nodes = [machine("a", group="learner"), machine("b", group="rollout"), machine("c", group="rollout")]
    assert counts(nodes, learner(8, group="learner"), rollout(6, group="rollout")) == [(8, 0), (0, 3), (0, 3)]


def test_a_replica_stays_on_one_node() -> None:
    plan = plan_placement([machine("a", gpus=3), machine("b", gpus=3)], learner(1), rollout(2, gpus=2))
    assert [tuple(row.values()) for row in plan.placed] == [(1, 1), (0, 1)]
    assert plan_placement([machine("a", gpus=3)], learner(1), rollout(2, gpus=2)).missing != []


def test_what_is_missing_is_said_with_the_nodes_that_count() -> None:
    nodes = [machine("10.0.0.1", group="learner"), machine("10.0.0.2", gpus=2, group="rollout")]
    plan = plan_placement(nodes, learner(4, group="learner"), rollout(4, group="rollout"))
    assert plan.missing == [
        "needs 4 rollout replicas of 4 CPU, 1 GPU on nodes labelled group=rollout; 2 of them fit. "
        "Such nodes here: 10.0.0.2 (64 CPU, 2 GPU). Lower rollout.replicas, or add nodes"
    ]
    assert "Such nodes here: none" in plan_placement([], learner(1), rollout(1)).missing[0]


@given(
    st.lists(st.tuples(st.integers(0, 8), st.integers(0, 64)), max_size=5),
    st.integers(1, 12),
    st.integers(1, 12),
    st.integers(1, 4),
)
def test_no_node_is_given_more_than_it_has(
    sizes: list[tuple[int, int]], ranks: int, replicas: int, gpus: int
) -> None:
    nodes = [machine(str(i), gpus=g, cpus=c) for i, (g, c) in enumerate(sizes)]
    plan = plan_placement(nodes, learner(ranks), rollout(replicas, gpus))
    for node, row in zip(plan.nodes, plan.placed, strict=True):
        on_learner, on_rollout = row.values()
        assert on_learner + gpus * on_rollout <= node.gpus
        assert 4 * (on_learner + on_rollout) <= node.cpus
    placed = sum(sum(row.values()) for row in plan.placed)
    assert (placed == ranks + replicas) == (plan.missing == [])


def test_demands_follow_the_configuration() -> None:
    config = load_config(
        None,
        ["--learner.ranks=3", "--rollout.replicas=5", '--rollout.label_selector={"group": "in(a,b)"}'],
    )
    for_learner, for_rollout = demands(config)
    assert str(for_learner) == "3 learner ranks of 1 CPU"
    assert str(for_rollout) == "5 rollout replicas of 1 CPU on nodes labelled group=in(a,b)"


@pytest.mark.parametrize(
    ("condition", "value", "met"),
    [
        ("a", "a", True),
        ("a", "b", False),
        ("a", None, False),
        ("!a", "b", True),
        ("!a", "a", False),
        ("!a", None, True),
        ("in(a,b)", "b", True),
        ("in(a, b)", "b", True),
        ("in(a,b)", "c", False),
        ("in(a,b)", None, False),
        ("!in(a,b)", "c", True),
        ("!in(a,b)", "a", False),
        ("!in(a,b)", None, True),
    ],
)
def test_conditions(condition: str, value: str | None, met: bool) -> None:
    assert matches({"x": condition}, {} if value is None else {"x": value, "y": "a"}) is met


def test_selectors_in_words() -> None:
    assert matches({}, {"x": "a"})
    assert on_nodes({}) == ""
    assert on_nodes({"b": "!x", "a": "y"}) == " on nodes labelled a=y, b=!x"


def ray_node(name: str, cpus: float, alive: bool = True, **labels: str) -> dict[str, object]:
    return {
        "NodeID": name,
        "NodeManagerAddress": name,
        "Alive": alive,
        "Labels": labels,
        "Resources": {"CPU": cpus} if cpus else {},
    }


def test_replicas_go_round_the_nodes_that_could_hold_one() -> None:
    nodes = [
        ray_node("head", 0),
        ray_node("small", 1),
        ray_node("gone", 64, alive=False),
        ray_node("b", 8, group="rollout"),
        ray_node("a", 8, group="rollout"),
        ray_node("large", 16, group="learner"),
    ]
    assert nodes_for({"CPU": 4.0}, {}, nodes) == ["large", "a", "b"]
    assert nodes_for({"CPU": 4.0}, {"group": "rollout"}, nodes) == ["a", "b"]
    assert nodes_for({"CPU": 4.0, "GPU": 1.0}, {}, nodes) == []
    assert [n.address for n in describe_nodes(nodes)] == ["head", "small", "b", "a", "large"]


@pytest.mark.parametrize(("gpus", "backend"), [(0, None), (0.5, None), (1, None), (2, "mp"), (8, "mp")])
def test_an_engine_of_several_gpus_starts_their_processes_itself(gpus: float, backend: str | None) -> None:
    """Its GPUs are in one bundle, which vLLM's executor on Ray refuses."""
    assert executor(RolloutConfig(gpus_per_replica=gpus)) == backend


def test_an_address_for_jobs_is_none_for_drivers(monkeypatch: pytest.MonkeyPatch) -> None:
    config = load_config(None).cluster
    monkeypatch.setenv("RAY_ADDRESS", "http://127.0.0.1:8265")
    with pytest.raises(ConfigError, match="takes jobs and no drivers: put `ray job submit"):
        cluster_address(config)
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    assert cluster_address(config) == "10.0.0.1:6379"


def test_selectors_in_presets(tmp_path: Path) -> None:
    preset = tmp_path / "preset.toml"
    preset.write_text('[rollout.label_selector]\n"ray.io/accelerator-type" = "L40S"\n')
    assert load_config(preset).rollout.label_selector == {"ray.io/accelerator-type": "L40S"}
    preset.write_text('[rollout.label_selectr]\na = "b"\n')
    with pytest.raises(ConfigError, match=r"unknown setting 'rollout\.label_selectr"):
        load_config(preset)
