from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, model_validator

from roles.package_file import PackageFile
from roles.role import LINE_ENDS, Matches, RoleSettings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from roles.rehearsal import Rehearsal

DataRoot = Annotated[str, Matches(rf"(/[^/\s{LINE_ENDS}]+){{2,}}", "is no directory for Docker's data, such as /srv/docker")]
TOOLKIT = "nvidia-container-toolkit-base"
"""NVIDIA's package with all that CDI needs."""

LogSize = Annotated[str, Matches(r"[1-9][0-9]{0,4}[kmg]", "is not a size of a log file, such as 10m")]


class DockerSettings(RoleSettings):
    """The Docker engine that runs the stacks of this host. Its API has no port, and a port that a container publishes without an address
    is open to the host alone."""

    rolls_back = True

    engine: Literal["distribution", "installed"] = "distribution"
    """`distribution`: the distribution's packages. `installed`: an engine that you have installed, of which Paddock changes nothing. It
    needs Docker Compose 2.17 or newer."""

    data_root: DataRoot = "/var/lib/docker"
    """Where images, containers and volumes lie. What lies in another place already stays there."""

    live_restore: bool = True
    """Whether containers run on while the engine is restarted."""

    log_size: LogSize = "10m"
    """The size of a container's log file, as k, m or g."""

    log_files: Annotated[int, Field(ge=1, le=100)] = 3
    """How many log files of a container are kept."""

    images: Literal["registry", "artifacts"] = "registry"
    """Where the images of stacks come from. `registry`: the host fetches them. `artifacts`: the control machine fetches them and sends
    them, for a host that reaches no registry."""

    toolkit: PackageFile | None = None
    """NVIDIA's package `nvidia-container-toolkit-base`, which no distribution has, for containers that get NVIDIA's cards. By default it is
    one that you have installed."""

    @model_validator(mode="after")
    def _changes_nothing(self) -> DockerSettings:
        left_alone = type(self).model_construct(engine=self.engine, images=self.images)
        said = {name for name in type(self).model_fields if getattr(self, name) != getattr(left_alone, name)}
        if self.engine == "installed" and said:
            raise ValueError(f"Paddock changes nothing of an engine that is `installed`: leave {', '.join(sorted(said))} out")
        return self

    def brings_images(self) -> bool:
        return self.images == "artifacts"

    def package_files(self) -> Iterator[tuple[str, str, PackageFile]]:
        if self.toolkit:
            yield TOOLKIT, "toolkit", self.toolkit

    def rehearsed(self, here: Rehearsal) -> tuple[DockerSettings, list[str]]:
        if self.engine == "distribution":
            without = [f"{here.host}: docker.toolkit is left out: a lab host has no card."] if self.toolkit else []
            return self.model_copy(update={"toolkit": None}), without
        told = f"{here.host}: docker.engine is distribution in place of installed: a lab host begins without one."
        return DockerSettings(images=self.images), [told]
