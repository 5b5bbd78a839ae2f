"""The whole fleet: `paddock up` runs this, and `pyinfra inventory/hosts.py deploys/site.py` does too."""

from pyinfra import host

from deploys.alone import work_for
from deploys.build import build
from deploys.converge import claim, converge, finish, prepare
from roles import ROLES

work = host.data.get("work") or work_for(host)
claim(work)
for each in work.builds:
    build(each)
prepare(work)
for role in host.loop(ROLES):
    converge(role, work)
finish(work)
