"""The load that src.bench.serve puts on a service."""

import httpx
import pytest

from src.bench.load import Request, at_rate, saturate
from src.bench.serve import _bad_uploads, _upload, bench_serve
from tests.conftest import call
from tests.serve.images import encoded, noise


@pytest.fixture(scope="module")
def good():
    return [_upload(encoded(noise(28, 28, seed=k))) for k in range(3)]


@pytest.mark.slow
def test_load_at_fixed_times_counts_every_answer(served, good):
    port = httpx.URL(served).port
    load = at_rate(port, good, 20, 2)
    assert len(load.latencies) == 40
    assert load.failures == []
    assert 39 / 20 <= load.seconds < 20  # the last of 40 requests is sent after 39 intervals
    assert all(0 < latency < 10 for latency in load.latencies)


def test_load_of_clients_in_turn_keeps_the_service_busy(served, good):
    load = saturate(httpx.URL(served).port, good, 3, 1)
    assert len(load.latencies) >= 3
    assert load.failures == []


@pytest.mark.slow
def test_bad_uploads_are_answered_with_reasons_and_else_count_as_failures(served, good):
    port = httpx.URL(served).port
    bad = _bad_uploads(good[0])
    assert at_rate(port, bad, 10, 1).failures == []
    called_good = [Request(one.data) for one in bad]
    assert len(at_rate(port, called_good, 10, 1).failures) == 10
    called_bad = [Request(good[0].data, good=False)]
    assert len(at_rate(port, called_bad, 10, 1).failures) == 10


@pytest.mark.slow
def test_benchmark_reports_every_batch_size_latency_and_memory(averaged_run, capsys):
    short = ("seconds=0.5", "batch_sizes=[1,4]", "minutes=0.05")
    figures = call("bench_serve", bench_serve, f"run={averaged_run}", *short)
    assert list(figures["ratios"]) == [1, 4]
    assert 0 < figures["p50"] <= figures["p99"]
    printed = capsys.readouterr().out
    assert "batch  4: bare net" in printed
    assert "memory" in printed
    assert "failed" not in printed
