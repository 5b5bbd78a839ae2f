"""Of random cases, too, `make check` takes a share: hypothesis tries other ones each time."""

from __future__ import annotations

from hypothesis import settings

from tests.share import WHOLE

EXAMPLES = 25

settings.register_profile("share", max_examples=EXAMPLES)
if not WHOLE:
    settings.load_profile("share")
