"""What the appliance measures of itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from steering.appliance.manifest import GIGABIT
from steering.appliance.report import Meter, has_default_route, sent_bytes

DEV = """\
Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo: 1000 1 0 0 0 0 0 0 {lo} 1 0 0 0 0 0 0
  eth0: 5 1 0 0 0 0 0 0 {eth0} 1 0 0 0 0 0 0
  eth1:5 1 0 0 0 0 0 0 {eth1} 1 0 0 0 0 0 0
"""


def test_sent_bytes_are_those_of_the_interfaces() -> None:
    text = DEV.format(lo=7, eth0=100, eth1=20)
    assert sent_bytes(text, ()) == 120
    assert sent_bytes(text, ("eth1",)) == 20
    assert sent_bytes(text, ("lo",)) == 7


def test_throughput_is_the_mean_since_the_last_reading() -> None:
    texts = iter(DEV.format(lo=0, eth0=count, eth1=0) for count in (0, 10 * GIGABIT, 3, 3 + GIGABIT))
    meter = Meter((), lambda: next(texts))
    assert meter.gbps(100.0) is None
    assert meter.gbps(110.0) == 1.0
    assert meter.gbps(120.0) is None  # the counter began anew
    assert meter.gbps(121.0) == 1.0


V4 = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n"
V6 = f"{'0' * 32} 00 {'0' * 32} 00 {'0' * 32}"


@pytest.mark.parametrize(
    ("family", "text", "result"),
    [
        (4, V4 + "eth0\t00000000\t010011AC\t0003\t0\t0\t0\t00000000\t0\t0\t0\n", True),
        (4, V4 + "eth0\t000011AC\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0\n", False),
        (4, V4, False),
        (6, f"{V6} ffffffff 00000001 00000000 00200200       lo\n", False),
        (6, f"{V6} 00000400 00000001 00000000 00000003     eth0\n", True),
        (6, "", False),
    ],
)
def test_a_family_is_reachable_with_a_default_route(tmp_path: Path, family: int, text: str, result: bool) -> None:
    assert not has_default_route(family, tmp_path)
    (tmp_path / ("route" if family == 4 else "ipv6_route")).write_text(text)
    assert has_default_route(family, tmp_path) is result
