"""What Paddock's plan has of a host of the bench's fleet, as a deploy of plain pyinfra operations; there is none that looks at a port."""

from pyinfra import host
from pyinfra.operations import apt, files, server, systemd

CADDY = "/etc/caddy/paddock"
DROPINS = "/etc/systemd/system/caddy.service.d"

for path in ("/etc/paddock", "/etc/paddock/expiry", "/var/lib/paddock", DROPINS):
    files.directory(name=path, path=path, user="root", group="root", mode="755")
for path in (CADDY, f"{CADDY}/clients"):
    files.directory(name=path, path=path, user="root", group="caddy", mode="750")

apt.packages(name="packages", packages=["ca-certificates", "curl", "iproute2", "procps", "openssl", "python3", "python3-apt", "caddy"])

server.user(  # noqa: S604, the shell is the account's
    name="the user",
    user="caddy",
    system=True,
    home="/var/lib/caddy",
    shell="/usr/sbin/nologin",
    groups=["www-data"],
    ensure_home=False,
)

changed = []
for path, group, mode in (
    (f"{CADDY}/ca.pem", "root", "644"),
    (f"{CADDY}/{host.name}.home.example.pem", "root", "644"),
    (f"{CADDY}/{host.name}.home.example.key", "caddy", "640"),
    (f"{CADDY}/clients/laptop.pem", "root", "644"),
    (f"{CADDY}/clients/phone.pem", "root", "644"),
    (f"{CADDY}/sites.caddy", "root", "644"),
    (f"{CADDY}/admitted", "root", "644"),
    (f"{DROPINS}/40-restart.conf", "root", "644"),
    (f"{DROPINS}/45-sandbox.conf", "root", "644"),
    (f"{DROPINS}/50-paddock.conf", "root", "644"),
    ("/etc/paddock/expiry/caddy.sh", "root", "755"),
    ("/etc/systemd/system/paddock-expiry-caddy.service", "root", "644"),
    ("/etc/systemd/system/paddock-expiry-caddy.timer", "root", "644"),
):
    src = f"{host.data.tree}/{host.name}{path}"
    changed.append(files.put(name=path, src=src, dest=path, user="root", group=group, mode=mode))

line = "import /etc/caddy/paddock/*.caddy"
changed.append(files.line(name="the import", path="/etc/caddy/Caddyfile", line=line, escape_regex_characters=True))

for name in ("caddy.service", "paddock-expiry-caddy.timer"):
    systemd.service(name=name, service=name, running=True, enabled=True)
systemd.service(
    name="restart", service="caddy.service", restarted=True, daemon_reload=True, _if=lambda: any(each.did_change() for each in changed)
)
