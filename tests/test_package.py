"""`import narf`: every name that it offers is there."""

from __future__ import annotations

import importlib

import pytest

import narf


@pytest.mark.parametrize("name", dir(narf))
def test_every_name_can_be_had(name: str):
    assert getattr(narf, name) is not None


def test_a_name_that_is_none_is_said():
    with pytest.raises(AttributeError, match="'narf' has no attribute 'deplay'"):
        importlib.import_module("narf").deplay  # noqa: B018
