"""The whole fleet: `paddock up` runs this, and `pyinfra control/deployment/pyinfra_hosts.py deploys/site.py` does too."""

from pyinfra import host

from control.deployment.work import STAGES
from deploys.build import build
from deploys.converge import claim, converge, finish, leave, prepare

work = host.data.get("work") or host.data.work_for(host)
claim(work)
for each in work.builds:
    build(each)
prepare(work)
for role in host.loop(STAGES):
    converge(role, work)
leave(work)
finish(work)
