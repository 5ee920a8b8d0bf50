"""The fleet's policy never exceeds resources or retry limits and always terminates, whatever happens."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from cluster.training.placement import Node, ResourceRequest
from cluster.training.policy import FleetPolicy, GiveUp, Rules, Start, Wait

RULES = Rules(attempts=3, back_off_s=10, longest_back_off_s=30, node_losses=2, patience_s=50, no_room_s=100)
REQUESTS = st.one_of(
    st.builds(ResourceRequest, st.just(1), st.sampled_from([0.5, 1, 2]), st.sampled_from([0, 0.25, 0.3, 0.5, 1, 2])),
    st.builds(ResourceRequest, st.integers(2, 4), st.sampled_from([0.5, 1]), st.sampled_from([0, 1])),
)
NODES = st.lists(st.tuples(st.integers(1, 8), st.integers(0, 3)), max_size=4)


def started(decisions: list[Any]) -> list[str]:
    return [d.name for d in decisions if isinstance(d, Start)]


def test_the_largest_start_first_and_smaller_ones_fill_the_gaps() -> None:
    targets = {
        "small": (ResourceRequest(), 1.0),
        "middle": (ResourceRequest(cpus=2), 2.0),
        "large": (ResourceRequest(cpus=3), 3.0),
    }
    policy = FleetPolicy(targets)
    policy.set_nodes([Node("a", 4)])
    assert started(policy.decide(0)) == ["large", "small"]
    assert policy.decide(1) == [Wait(None)]
    policy.done("large")
    assert started(policy.decide(2)) == ["middle"]


def test_fractions_share_a_gpu_and_leave_other_gpus_free() -> None:
    quarter, whole = ResourceRequest(gpus=0.25), ResourceRequest(gpus=1)
    policy = FleetPolicy({**{f"q{i}": (quarter, 5.0) for i in range(4)}, "w": (whole, 1.0)})
    policy.set_nodes([Node("a", 8, 2)])
    starts = [d for d in policy.decide(0) if isinstance(d, Start)]
    assert len(starts) == 5
    gpus = [gpu for start in starts for bundle in start.placement for gpu, _ in bundle.gpus]
    assert sorted(Counter(gpus).values()) == [1, 4]


def test_the_fullest_node_is_used_first() -> None:
    policy = FleetPolicy({"small": (ResourceRequest(), 1.0)})
    policy.set_nodes([Node("large", 8), Node("little", 2)])
    start = policy.decide(0)[0]
    assert isinstance(start, Start)
    assert start.placement[0].node == "little"


def test_a_failed_target_backs_off_and_is_given_up_at_its_limit() -> None:
    policy = FleetPolicy({"a": (ResourceRequest(), 1.0), "b": (ResourceRequest(), 1.0)}, RULES)
    policy.set_nodes([Node("n", 2)])
    assert started(policy.decide(0)) == ["b", "a"]
    for now, back_off in ((0.0, 10.0), (10.0, 20.0)):
        policy.failed("a", "failed", now, "diverged")
        assert policy.decide(now) == [Wait(now + back_off)]
        assert started(policy.decide(now + back_off)) == ["a"]
    policy.failed("a", "failed", 50, "diverged")
    assert policy.decide(50) == [GiveUp("a", "diverged"), Wait(None)]
    policy.done("b")
    assert policy.decide(60) == []
    assert policy.phases == {"a": "given up", "b": "done"}


def test_a_lost_node_is_no_failure_and_needs_no_back_off() -> None:
    policy = FleetPolicy({"a": (ResourceRequest(), 1.0)}, RULES)
    policy.set_nodes([Node("n", 1)])
    assert started(policy.decide(0)) == ["a"]
    assert policy.set_nodes([Node("m", 1)]) == ["a"]
    (start, _) = policy.decide(0)
    assert isinstance(start, Start)
    assert (start.attempt, start.placement[0].node) == (2, "m")


def test_out_of_memory_doubles_the_gpu_share() -> None:
    policy = FleetPolicy({"a": (ResourceRequest(gpus=0.3), 1.0)}, RULES)
    policy.set_nodes([Node("n", 4, 1)])
    shares = []
    for now in (0, 100):
        (start, _) = policy.decide(now)
        assert isinstance(start, Start)
        shares.append(start.resources.gpus)
        policy.failed("a", "out of memory", now, "out of memory")
    assert shares == [0.3, 0.6]


def test_a_large_target_does_not_starve() -> None:
    small = {f"s{i:02d}": (ResourceRequest(), 1.0) for i in range(40)}
    policy = FleetPolicy({"large": (ResourceRequest(workers=2), 0.5), **small}, RULES)
    policy.set_nodes([Node("n", 2)])
    now, running = 0.0, started(policy.decide(0))
    while "large" not in running:
        now += 10
        assert now < 200, "it starves"
        policy.done(running.pop(0))
        running += started(policy.decide(now))
    assert now >= RULES.patience_s


def test_a_target_larger_than_the_cluster_is_given_up_with_the_reason() -> None:
    policy = FleetPolicy({"a": (ResourceRequest(workers=4, gpus=1), 1.0)}, RULES)
    policy.set_nodes([Node("n", 8, 2)])
    assert policy.decide(0) == [Wait(100)]
    (given_up,) = policy.decide(100)
    assert given_up == GiveUp("a", "the cluster never held 4 x (1 cores, 1 GPUs)")


@pytest.mark.parametrize("request_", [(2, 1, 0.5), (1, 1, 1.5), (0, 1, 0), (1, -1, 0)])
def test_invalid_resource_requests_are_refused(request_: tuple[int, float, float]) -> None:
    with pytest.raises(ValueError, match=r"a request needs|a fraction of a GPU"):
        ResourceRequest(*request_)


class AnyFleet(RuleBasedStateMachine):
    """A fleet with arbitrary events. Reserved resources are counted independently, from the Starts alone."""

    @initialize(requests=st.lists(st.tuples(REQUESTS, st.floats(0, 100)), max_size=12), nodes=NODES)
    def begin(self, requests: list[tuple[ResourceRequest, float]], nodes: list[tuple[int, int]]) -> None:
        self.policy = FleetPolicy({f"t{i}": request for i, request in enumerate(requests)}, RULES)
        self.now, self.nodes_created = 0.0, 0
        self.running: dict[str, Start] = {}
        self.failures: Counter[str] = Counter()
        self.given_up: set[str] = set()
        self.nodes: list[Node] = []
        self.add_nodes(nodes)

    @rule(nodes=NODES)
    def add_nodes(self, nodes: list[tuple[int, int]]) -> None:
        self.nodes += [Node(f"n{self.nodes_created + i}", cpus, gpus) for i, (cpus, gpus) in enumerate(nodes)]
        self.nodes_created += len(nodes)
        assert self.policy.set_nodes(self.nodes) == []

    @rule(which=st.integers(0, 100))
    def lose_a_node(self, which: int) -> None:
        if self.nodes:
            gone = self.nodes.pop(which % len(self.nodes))
            affected = {
                n for n, start in self.running.items() if gone.name in {bundle.node for bundle in start.placement}
            }
            assert set(self.policy.set_nodes(self.nodes)) == affected
            self.running = {n: start for n, start in self.running.items() if n not in affected}

    @rule(which=st.integers(0, 100), how=st.sampled_from(["done", "failed", "out of memory"]))
    def end_an_attempt(self, which: int, how: Any) -> None:
        if self.running:
            name = sorted(self.running)[which % len(self.running)]
            del self.running[name]
            if how == "done":
                self.policy.done(name)
            else:
                self.failures[name] += 1
                self.policy.failed(name, how, self.now, how)

    @rule(seconds=st.floats(0, 60))
    def advance(self, seconds: float) -> None:
        self.now += seconds
        self.decide()

    def decide(self) -> list[Any]:
        decisions = self.policy.decide(self.now)
        for decision in decisions:
            if isinstance(decision, Start):
                assert decision.name not in {*self.running, *self.given_up}, "run twice at once"
                assert self.failures[decision.name] < RULES.attempts
                assert len(decision.placement) == decision.resources.workers
                self.running[decision.name] = decision
            elif isinstance(decision, GiveUp):
                self.given_up.add(decision.name)
        return decisions

    @invariant()
    def never_over_the_resources(self) -> None:
        reserved: Counter[Any] = Counter()
        for start in getattr(self, "running", {}).values():
            for bundle in start.placement:
                reserved[bundle.node] += bundle.cpus
                for gpu, share in bundle.gpus:
                    reserved[bundle.node, gpu] += share
        nodes = {n.name: n for n in getattr(self, "nodes", [])}
        for key, amount in reserved.items():
            if isinstance(key, tuple):
                assert key[1] < nodes[key[0]].gpus
                assert amount <= 1000
            else:
                assert amount <= nodes[key].cpus * 1000

    def teardown(self) -> None:
        """From any state, if nothing fails any more, the fleet terminates."""
        if not hasattr(self, "policy"):
            return
        for _ in range(500):
            decisions = self.decide()
            if not decisions:
                break
            wait = decisions[-1]
            if not isinstance(wait, Wait):
                assert not self.running
                continue
            if self.running:
                self.end_an_attempt(0, "done")
            else:
                assert wait.until_s is not None, "waits for ever"
                self.now = max(self.now, wait.until_s)
        assert set(self.policy.phases.values()) <= {"done", "given up"}


TestAnyFleet = AnyFleet.TestCase
TestAnyFleet.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
