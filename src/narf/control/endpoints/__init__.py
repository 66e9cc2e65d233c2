"""Endpoints: an address, the revisions behind it, their replicas as workloads, and how traffic moves between them."""
