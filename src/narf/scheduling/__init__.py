"""Scheduling: who runs where, decided by one pure function that production and the simulator share.

    snapshot = snapshot_of(nodes, queues, requests)   # plain values in, columns out
    answer = plan(snapshot, policy, now)              # now: seconds since 1970
    for decision in answer.decisions: ...             # Admit, Preempt or Hold, to be carried out in this order
    answer.waiting[workload_id]                       # why it waits, as data

The one who calls carries out `Admit` (start it there) and `Preempt` (ask it to leave; it stays in the snapshot as STOPPING, with
its place, until it has left). A `Hold` is stored with its workload and given back as `Request.placed` of the PENDING
request in the next snapshot; one that a new plan does not repeat is dropped.
"""

from narf.scheduling.decisions import Admit, Decision, Hold, Plan, Preempt, PreemptReason, Reason, Waiting
from narf.scheduling.planner import plan
from narf.scheduling.policy import DEFAULT_POLICY, Policy
from narf.scheduling.requests import Forecast, Node, Phase, Placed, Queue, Request
from narf.scheduling.snapshot import Snapshot, snapshot_of

__all__ = [
    "DEFAULT_POLICY", "Admit", "Decision", "Forecast", "Hold", "Node", "Phase", "Placed", "Plan", "Policy", "Preempt",
    "PreemptReason", "Queue", "Reason", "Request", "Snapshot", "Waiting", "plan", "snapshot_of",
]  # fmt: skip
