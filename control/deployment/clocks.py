"""What hosts say of the time. A certificate that was signed under a wrong clock is over, or has not begun, where it lands."""

from __future__ import annotations

from collections.abc import Mapping

from inventory.errors import PaddockError

TOLERANCE_S = 60

MEND = "`timedatectl` shows and sets it"


def compared(told: Mapping[str, int], began: float, ended: float) -> dict[str, float]:
    """Host → how far its clock, in seconds since 1970, is off one that showed `began` when it was asked and `ended` when it had answered; 0
    where they agree."""
    return {name: 0 if began - TOLERANCE_S <= clock <= ended + TOLERANCE_S else clock - began for name, clock in told.items()}


def refusal(off: float) -> str:
    """Why nothing is done on a host."""
    return f"its clock is {off:+.0f} s off this machine's: certificates would not be valid there. Set one of the two right: {MEND}"


def require_agreement(clocks: Mapping[str, float]) -> None:
    """Raises PaddockError where not more hosts agree with this machine's clock than say another time; not where none has said any."""
    others = {name: off for name, off in clocks.items() if off}
    agreeing = [name for name, off in clocks.items() if not off]
    if others and len(others) >= len(agreeing):
        said = ", ".join(f"{name} {off:+.0f} s" for name, off in others.items())
        raise PaddockError(
            f"hosts say another time than this machine ({said}; {', '.join(agreeing) or 'none'} agree{'s' if len(agreeing) == 1 else ''}): "
            f"nothing was signed. Set the wrong clocks right: {MEND}; `--limit` of `paddock up` leaves out hosts whose clock stays wrong"
        )
