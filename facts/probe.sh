# The actual state of what a plan names, each kind in one command for all of it. It reads, and changes nothing (but notes the digest of a model that is the user's, which is read once).
# Before this come the lists that it works on, one value a line, as functions: paths, files, links, exclusive, packages, users, services, ports …
LC_ALL=C TZ=UTC; export LC_ALL TZ; tab=$(printf '\t'); IFS='
'
set -f
if [ -e /run/paddock/lock ]; then
  exec 9</run/paddock/lock
  flock -s -w 300 9 || { echo 'paddock: another run has been changing this host for five minutes' >&2; exit 75; }
fi

echo "#clock"; date +%s
echo "#identity"; identity
echo "#rest"; find /var/lib/paddock -maxdepth 1 -name 'stage.*' 2>/dev/null
echo "#manifest"; set --
[ ! -f /var/lib/paddock/manifest ] || while read -r line; do
  case $line in 'put '?*|'kept '?*|'data '?*) printf '%s\n' "$line";; esac
  case $line in 'data model:'*) path=${line#data model:}; set -- "$@" "$path" "$path.part" "$path.wrong";; esac
done </var/lib/paddock/manifest
[ $# = 0 ] || { echo "#data"; stat --printf '%n\t%s\n' -- "$@" 2>/dev/null; }

set -- $(paths)
[ $# = 0 ] || { echo "#stat"; find "$@" -maxdepth 0 -printf '%p\t%y\t%u\t%g\t%m\t%s\t%C@\t%l\n' 2>/dev/null; }

set --; for path in $(files); do [ ! -f "$path" ] || [ -L "$path" ] || set -- "$@" "$path"; done
[ $# = 0 ] || { echo "#sha256"; sums=$(sha256sum -- "$@"); printf '%s\n' "$sums"
                echo "#text"; for line in $(printf '%s\n' "$sums" | differing); do path=${line#*  }
                  [ "$(stat -c %s "$path")" -gt 65536 ] || printf '%s\t%s\n' "$path" "$(base64 -w0 "$path")"; done; }

set -- $(exclusive)
[ $# = 0 ] || { echo "#inside"; find "$@" -mindepth 1 -maxdepth 1 -printf '%h\t%f\n' 2>/dev/null; }

echo "#line"; for pair in $(lines); do path=${pair%%"$tab"*}; grep -qxF -e "${pair#*"$tab"}" "$path" 2>/dev/null && printf '%s\n' "$path"; done

echo "#model"
for path in $(models); do [ -f "$path" ] || continue
  now=$(stat -c '%s %Y %i' "$path") recorded= ours=  # beside the file only where it is Paddock's: another's could say anything
  if [ -O "$path.sha256" ]; then note=$path.sha256; else note=/var/lib/paddock/digests/$(printf %s "$path" | sha256sum | cut -c -32) ours=1; fi
  [ ! -f "$note" ] || read -r recorded <"$note"
  if [ "${recorded#* }" = "$now" ]; then echo "$path$tab${recorded%% *}"
  else sum=$(sha256sum <"$path"); echo "$path$tab${sum%% *}"
    [ -z "$ours" ] || [ ! -d /var/lib/paddock ] || { mkdir -p "${note%/*}" && echo "${sum%% *} $now" >"$note.$$" && mv -f "$note.$$" "$note"; } 2>/dev/null
  fi
done

echo "#release"
for path in $(releases); do [ -f "$path/.paddock-release" ] && [ -f "$path/MANIFEST" ] || continue
  read -r print <"$path/.paddock-release"
  for file in $(cut -c 67- "$path/MANIFEST"); do [ -f "$path/$file" ] || print="$file is missing"; done
  echo "$path$tab$print"
done

set -- $(packages)
[ $# = 0 ] || { echo "#rest"; set +f; for file in /var/lib/dpkg/updates/[0-9]*; do [ ! -f "$file" ] || echo "$file"; done; set -f  # dpkg's journal: one died, or is still at work for a run that died
                echo "#package"; dpkg-query -W -f '${Package}\t${db:Status-Abbrev}\t${Version}\n' "$@" 2>/dev/null; }

set -- $(users)
[ $# = 0 ] || { echo "#passwd"; getent passwd "$@"; echo "#groups"; for user; do groups=$(id -Gn "$user" 2>/dev/null) && echo "$user$tab$groups"; done; }

own() { account=$1; shift; runuser -u "$account" -- env XDG_RUNTIME_DIR="/run/user/$(id -u "$account")" systemctl --user "$@" 2>/dev/null; }
properties='--timestamp=us+utc
--property=Id,ActiveState,UnitFileState,NeedDaemonReload,InvocationID,MainPID,ActiveEnterTimestamp,StateChangeTimestamp'

set -- $(services) # an account's own, after the system's, are named with it: ai/llama-server.service
[ $# = 0 ] || { system= owned=; for each; do case $each in */*) owned="$owned$each$IFS";; *) system="$system$each$IFS";; esac; done
                shown=$([ -z "$system" ] || systemctl show $properties -- $system
                        for each in $owned; do echo; own "${each%%/*}" show $properties -- "${each#*/}" || echo "ActiveState=unknown"; done)
                echo "#service"; printf '%s\n' "$shown"; echo "#program"
                set --; for line in $shown; do case $line in MainPID=[1-9]*) set -- "$@" "/proc/${line#MainPID=}/exe";; esac; done
                [ $# = 0 ] || find "$@" -maxdepth 0 -printf '%p\t%l\n' 2>/dev/null
                echo "#stamp"; find /run/paddock -type l -printf '%f\t%l\n' 2>/dev/null
                [ -z "$owned" ] || for account in $(printf '%s\n' $owned | cut -d/ -f1 | sort -u); do
                  find "/run/user/$(id -u "$account")/paddock" -type l -name "$account--*" -printf '%f\t%l\n' 2>/dev/null
                done; }

filter=$(ports)
[ -z "$filter" ] || { echo "#socket"; sockets=$(ss -Hltunp "$filter"); printf '%s\n' "$sockets"; echo "#cgroup"
                      while case $sockets in *pid=*) ;; *) false;; esac; do
                        sockets=${sockets#*pid=}; pid=${sockets%%,*}
                        while read -r group; do case $group in 0::*|*:name=systemd:*) echo "$pid$tab${group##*:}";; esac; done </proc/$pid/cgroup
                      done 2>/dev/null; }
exit 0
