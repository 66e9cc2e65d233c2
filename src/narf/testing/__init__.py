"""Fakes and contract suites for those who implement a boundary of Narf. Needs pytest for the contracts."""
