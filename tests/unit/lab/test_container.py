"""What a lab host is made with: no more than the machine has to give, and no less than a machine has."""

from pathlib import Path

import pytest

from lab.container import CAPABILITIES, capabilities


@pytest.mark.parametrize(
    ("bounding", "more"), [("000001ffffffffff", ("SYS_RESOURCE",)), ("000001fffeffffff", ()), ("00000000a80425fb", ())]
)
def test_systemd_may_raise_limits_where_the_machine_may(bounding: str, more: tuple[str, ...], tmp_path: Path) -> None:
    status = tmp_path / "status"
    status.write_text(f"Name:\tpaddock\nCapEff:\t0000000000000000\nCapBnd:\t{bounding}\n")
    assert capabilities(status) == (*CAPABILITIES, *more)
