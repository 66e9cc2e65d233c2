"""A replica that grows is replaced in time: the decision as properties, the watch and the measurement with real processes."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import threading
import time

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from packages import linear, with_processing

from narf.serving.memory import Allowance, Growth, MemoryWatch, allowance, growth, proportional_bytes, resident_bytes
from narf.serving.packaging.weigh import weighed

MIB = 1 << 20
SIZES = st.integers(0, 1 << 40)


@given(SIZES, SIZES)
def test_a_model_may_take_three_times_its_memory_and_half_a_gibibyte(model, more):
    assert model + allowance(model).replace == 3 * model + 512 * MIB
    assert allowance(model + more).replace >= allowance(model).replace


@given(SIZES, st.integers(1, 1 << 40), SIZES)
def test_a_limit_that_was_given_counts_and_is_reached_before_it_is_enforced(model, limit, held):
    allowed = allowance(model, limit_bytes=limit, held_bytes=held)
    assert 0 <= allowed.replace <= allowed.leave <= max(0, limit - held)


@given(SIZES, SIZES, SIZES, SIZES)
def test_the_more_it_grows_the_sooner_it_goes(grown, more, model, limit):
    order, allowed = list(Growth), allowance(model, limit_bytes=limit)
    assert allowed.replace <= allowed.leave <= allowed.end
    assert order.index(growth(grown, allowed)) <= order.index(growth(grown + more, allowed))
    assert (growth(grown, allowed) is Growth.FINE) == (grown <= allowed.replace)


def test_a_replica_that_grows_asks_until_somebody_knows_and_ends_when_it_is_too_late():
    held, asked, ended = [100 * MIB], [], threading.Event()

    def replace(sentence, at_once):
        asked.append((sentence, at_once))
        return len(asked) >= 2

    watch = MemoryWatch(
        Allowance(10 * MIB, 20 * MIB, 30 * MIB), replace, lambda _: ended.set(), resident=lambda: held[0], look_seconds=0.01
    )
    time.sleep(0.1)
    assert not asked
    for grown, times, at_once in ((15, 2, False), (25, 3, True)):
        held[0] = (100 + grown) * MIB
        until = time.monotonic() + 10
        while len(asked) < times and time.monotonic() < until:
            time.sleep(0.01)
        time.sleep(0.05)
        assert len(asked) == times and asked[-1][1] is at_once
        assert f"grown by {grown} MiB" in asked[-1][0] and "10 MiB are allowed" in asked[-1][0]
        assert not ended.is_set()
    watch.allow(Allowance(0, 0, 1))  # its models have gone elsewhere one after the other: that makes it end no sooner
    time.sleep(0.05)
    assert not ended.is_set()
    held[0] = 135 * MIB
    assert ended.wait(10)
    watch.stop()


def test_this_process_holds_something():
    assert 0 < proportional_bytes() <= resident_bytes()


def test_a_package_is_weighed_with_its_largest_batch(tmp_path):
    small = weighed(linear(tmp_path / "small"))
    large = weighed(
        with_processing(tmp_path / "large", "KEPT = bytearray(b'x' * (100 << 20))\ndef preprocess(inputs):\n    return inputs\n")
    )
    assert small is not None and large is not None and 95 * MIB < large - small < 140 * MIB
    assert weighed(tmp_path / "nothing") is None


LEAKS = """
import numpy as np
KEPT = []
def preprocess(inputs):
    KEPT.append(np.ones(int(inputs["x"][0, 0]) << 17))  # so many MiB
    return inputs
"""


@pytest.mark.parametrize("mib", [100, 900])
def test_a_model_that_leaks_far_beyond_what_is_allowed_ends_its_replica(tmp_path, mib):
    """1.2 times what is allowed is for others to decide; more than twice as much cannot wait."""
    announce = tmp_path / "r.json"
    folder = with_processing(tmp_path / "leaking", LEAKS)
    process = subprocess.Popen(
        [sys.executable, "-m", "narf.serving.replica", "--package", folder, "--announce", announce, "--memory-bytes", str(300 * MIB)],
        stderr=subprocess.PIPE,
    )
    try:
        until = time.monotonic() + 20
        while not announce.exists() and time.monotonic() < until:
            time.sleep(0.01)
        url = json.loads(announce.read_text())["url"]
        answers = []
        if mib < 500:
            for _ in range(3):
                answers.append(httpx.post(f"{url}/predict", json={"inputs": [[mib, 0, 0, 0]]}, timeout=30).status_code)
                time.sleep(0.6)
            assert answers == [200] * 3 and process.poll() is None
        else:
            with contextlib.suppress(httpx.HTTPError):
                for _ in range(20):
                    httpx.post(f"{url}/predict", json={"inputs": [[mib, 0, 0, 0]]}, timeout=30)
            assert process.wait(20) == 71
    finally:
        process.kill()
        assert b"has grown by" in process.communicate()[1]
