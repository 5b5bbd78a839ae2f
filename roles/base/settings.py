from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from roles.role import LINE_ENDS, PACKAGE, Matches, RoleSettings

if TYPE_CHECKING:
    from roles.rehearsal import Rehearsal

UnitPath = Annotated[
    str,
    Matches(
        rf"/[^\s{LINE_ENDS}]+/systemd/[^\s{LINE_ENDS}]+\.(conf|service|timer)",
        "is no unit's or drop-in's path: /etc/systemd/system/NAME.service.d/NAME.conf",
    ),
]
PackageName = Annotated[str, Matches(PACKAGE, "is not a package name: lower-case letters, digits, + . and -, and no - at the end")]


class BaseSettings(RoleSettings):
    """Basics of every host: time synchronization, and the programs that the other roles call."""

    time: Literal["timesyncd", "chrony", "elsewhere"] = "timesyncd"
    """The time synchronization: systemd-timesyncd, chrony, or `elsewhere` if Paddock does not manage it (the container's host or a
    hypervisor does)."""

    packages: tuple[PackageName, ...] = ()
    """Additional packages of the distribution."""

    accepted_units: tuple[UnitPath, ...] = ()
    """Systemd units and drop-ins of your own that may change Paddock's services. Any other makes `plan`, `status` and `verify` fail."""

    def accepts(self) -> tuple[str, ...]:
        return self.accepted_units

    def rehearsed(self, here: Rehearsal) -> tuple[BaseSettings, list[str]]:
        moved, told = here.moved(self)
        if self.time == "elsewhere":
            return moved, told
        told.append(f"{here.host}: base.time is elsewhere in place of {self.time}: a lab host uses the clock of this machine.")
        return moved.model_copy(update={"time": "elsewhere"}), told
