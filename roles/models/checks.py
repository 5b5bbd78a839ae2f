"""What a plan of model files cannot say by itself: that what lies there is models."""

from __future__ import annotations

from shlex import quote
from typing import TYPE_CHECKING

from resources import lines_of

if TYPE_CHECKING:
    from testinfra.host import Host as TestinfraHost

    from roles.models.settings import ModelsSettings


def check_every_model_file_is_a_whole_gguf(host: TestinfraHost, settings: ModelsSettings) -> None:
    """A download that was cut off keeps its `.part`; one that was saved as an error page does not begin with GGUF."""
    found = host.run(
        f'cd {quote(settings.directory)} && for file in *.gguf; do [ ! -e "$file" ] || echo "$(head -c 4 "$file") $file"; done'
    )
    others = [line for line in lines_of(found.stdout) if not line.startswith("GGUF ")]
    assert found.rc == 0 and not others, f"no GGUF in {settings.directory}: {', '.join(others) or found.stderr}"
