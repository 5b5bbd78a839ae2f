"""Releases built where nobody has them, and laid on each host beside the one that serves, with the packages that they need.
`paddock upgrade` runs this before it switches anything."""

from pyinfra import host

from deploys.applying import apply, stage
from deploys.build import build
from deploys.converge import claim, finish
from deploys.packages import installed
from resources import Package, Release
from resources.steps import Steps

work = host.data.work
claim(work)
for each in work.builds:
    build(each)
stage(name="releases", needs=frozenset().union(*work.needs.values()))
installed(work.wrong(Package), work)
steps = Steps()
for release in work.wrong(Release):
    release.land(steps, work)
if steps:
    apply(name="release, and its gate", steps=steps)
finish(work)
