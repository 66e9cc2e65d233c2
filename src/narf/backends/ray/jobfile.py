"""A job as text, for the folder that the control plane and the driver share. Its environment is kept apart."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

from narf.backends.protocol import Job, Replica
from narf.domain.workload import Resources


def job_to_json(job: Job) -> str:
    return json.dumps(asdict(replace(job, environment={})))


def job_from_json(text: str) -> Job:
    fields = json.loads(text)
    fields["replicas"] = [
        Replica(node=replica["node"], gpu_indices=tuple(replica["gpu_indices"]), gpu_fraction=replica["gpu_fraction"])
        for replica in fields["replicas"]
    ]
    resources = fields["resources"]
    resources["node_selector"] = tuple((name, value) for name, value in resources["node_selector"])
    fields["resources"] = Resources(**resources)
    return Job(**fields)
