"""The gateway: the one address of all endpoints. It authorises, routes by weight, retries, ejects, holds and counts.

A process of its own that keeps serving with what it knows when the control plane is away; several can stand side by side.
"""
