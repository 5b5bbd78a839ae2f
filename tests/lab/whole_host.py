"""All that a host is, outside what it runs on: every path, account, package, unit, rule, kernel setting and job, read through the engine."""

from __future__ import annotations

from collections.abc import Mapping

from snapshot import FROM_THE_CONNECTION, inside

PASSING = "/proc /sys /dev /tmp /var/tmp /var/log /run/log /run/lock /run/user /run/udev /run/systemd /run/initctl /run/screen /run/utmp"
"""What is no disk's, what systemd itself keeps of what runs, and logs."""

SUMMED = "/etc /opt /home /root /srv /usr/local /var/lib /var/spool"
"""Where a file's content is compared too: elsewhere it is a package's."""

READ = rf"""
export LC_ALL=C
echo "#files"; find / \( {" -o ".join(f"-path {each}" for each in PASSING.split())} \) -prune -o -printf '%p\t%y %U:%G %m %l\n' 2>/dev/null
echo "#contents"; find {SUMMED} -xdev -type f -exec sha256sum {{}} + 2>/dev/null | sed 's/^\([^ ]*\)  \(.*\)/\2\t\1/'
echo "#transient units"; find /run/systemd/transient /run/systemd/system /run/systemd/generator -mindepth 1 -printf '%p\t%y\n' 2>/dev/null
echo "#unit files"; systemctl list-unit-files --plain --no-legend | tr -s ' ' '\t'
echo "#units"; systemctl list-units --all --plain --no-legend | grep -v not-found |
  awk '$1 !~ /\.(device|scope|mount|swap|slice)$/ {{ print $1 "\t" $3 }}'
echo "#users"; getent passwd | sed 's/:/\t/'
echo "#groups"; getent group | sed 's/:/\t/'
echo "#processes"; ps -eo user:32,comm --no-headers | awk '{{ print $1 " " $2 "\t" }}' | sort -u
echo "#listening"; ss -Hltun | awk '{{ print $1 " " $5 "\t" }}'
echo "#sockets"; ss -Hlx | awk '{{ print $5 "\t" }}' | grep '^/'
echo "#packages"; dpkg-query -W -f '${{Package}}\t${{db:Status-Abbrev}} ${{Version}}\n'
echo "#asked for"; apt-mark showmanual | sed 's/$/\t/'
echo "#rules"; nft list ruleset 2>/dev/null | sed 's/$/\t/'
echo "#kernel settings"; sysctl -a 2>/dev/null | sed 's/ = /\t/'
echo "#mounts"; cut -d' ' -f2,3 /proc/mounts | sed 's/$/\t/'
echo "#jobs"; for user in $(cut -d: -f1 /etc/passwd); do crontab -l -u "$user" 2>/dev/null | sed "s/^/$user /; s/$/\t/"; done
"""

Whole = Mapping[str, Mapping[str, str]]
"""Aspect → name → how it is."""


def whole_host(container: str) -> Whole:
    found: dict[str, dict[str, str]] = {}
    for line in inside(container, READ).splitlines():
        if line.startswith("#") and "\t" not in line:
            aspect = found.setdefault(line[1:], {})
        else:
            name, _, value = line.partition("\t")
            if not FROM_THE_CONNECTION.fullmatch(name):
                aspect[name] = value
    return found
