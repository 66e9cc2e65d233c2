"""What is refused at submission is exactly what the planner says can never start."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from narf.domain.errors import BadInput
from narf.domain.workload import Resources
from narf.scheduling import DEFAULT_POLICY, Node, Queue, Request, plan, snapshot_of
from narf.scheduling.feasibility import Bounds, check_bounds, check_fits, check_flavor

nodes = st.builds(
    Node,
    name=st.uuids().map(str),
    cpu=st.sampled_from([1.0, 4.0, 64.0]),
    memory_bytes=st.sampled_from([1 << 30, 1 << 38]),
    gpus=st.sampled_from([0, 1, 2, 8]),
    gpu_memory_bytes=st.sampled_from([0, 16 << 30, 80 << 30]),
    flavor=st.sampled_from(["", "a100"]),
    labels=st.sampled_from([(), (("zone", "a"),)]),
    cluster=st.sampled_from(["x", "y"]),
)
resources = st.builds(
    Resources,
    gpu=st.sampled_from([0.3, 0.5, 1.0, 2.0, 8.0]),
    cpu=st.sampled_from([0.5, 2.0, 8.0]),
    memory_bytes=st.sampled_from([0, 1 << 29, 1 << 35]),
    gpu_memory_bytes=st.sampled_from([0, 10 << 30, 40 << 30]),
    flavor=st.sampled_from(["", "a100"]),
    node_selector=st.sampled_from([(), (("zone", "a"),)]),
)


@given(nodes=st.lists(nodes, min_size=1, max_size=5), resources=resources, replicas=st.integers(1, 6))
@settings(max_examples=300, deadline=None)
def test_refused_is_exactly_what_never_starts(nodes: list[Node], resources: Resources, replicas: int) -> None:
    asked = Request(id="w", queue="p", resources=resources, replicas=replicas, submitted_at=0.0)
    never = plan(snapshot_of(nodes, [Queue(name="p")], [asked]), DEFAULT_POLICY, 10.0).never_fit
    refused = None
    try:
        check_fits(nodes, resources, replicas)
    except BadInput as error:
        refused = error
    assert (refused is not None) == (never == ("w",))
    assert refused is None or refused.remedy


@given(nodes=st.lists(nodes, min_size=1, max_size=5), gpu=st.integers(1, 16))
@settings(max_examples=100, deadline=None)
def test_the_largest_that_is_named_can_start(nodes: list[Node], gpu: int) -> None:
    try:
        check_fits(nodes, Resources(gpu=gpu, cpu=0.5), 1)
    except BadInput as error:
        if error.remedy.startswith("The largest"):
            check_fits(nodes, Resources(gpu=float(error.remedy.split()[7]), cpu=0.5), 1)
        else:
            assert all(node.gpus == 0 for node in nodes)


def test_a_flavor_that_a_quota_names_is_only_away() -> None:
    node = Node(name="a", cpu=1, memory_bytes=1, flavor="a100")
    check_flavor([node], {"h100"}, "h100", "resources.flavor")
    with pytest.raises(BadInput, match=r"There is no flavor 'nosuch' in this cluster. Flavors here: a100, h100."):
        check_flavor([node], {"h100"}, "nosuch", "resources.flavor")


def test_a_limit_on_memory_binds_the_whole_gang() -> None:
    bounds = [Bounds(queue="p", quota={}, limit={"memory": float(3 << 30)})]
    check_bounds(bounds, Resources(memory_bytes=1 << 30), 3, preemptible=True, quotas_used=False)
    with pytest.raises(BadInput, match=r"asks for 4.0 GiB of memory; 'p' may hold 3.0 GiB of memory at most"):
        check_bounds(bounds, Resources(memory_bytes=1 << 30), 4, preemptible=True, quotas_used=False)
