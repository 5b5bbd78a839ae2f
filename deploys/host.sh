# What a host does to itself. Sourced from the archive that it came in, with `set -eu`, the lock held and $stage the unpacked archive.
# `at` names the resource at work: whatever fails, the last line on standard error says where; a script that is killed leaves the last of its
# `paddock-does:` lines.

at() { at=$1; echo "paddock-does: $1" >&2; }

fail() { echo "$1" >&2; exit 1; }

backup() { # PATH: keeps what was there before Paddock, once
  kept=/var/lib/paddock/backup$1
  [ -e "$1" ] || [ -L "$1" ] || return 0
  [ ! -e "$kept" ] && [ ! -L "$kept" ] || return 0
  mkdir -p "${kept%/*}" && rm -rf "$kept.new" && cp -a -- "$1" "$kept.new" && mv -fT "$kept.new" "$kept" || fail "could not be kept as $kept, so it was left as it is"
}

restore() { # ORIGIN PATH: puts back what was there before Paddock. What was there and has no backup was never changed, or is back already
  kept=/var/lib/paddock/backup$2 near=${2%/*}/.paddock-${2##*/}
  if [ -e "$kept" ] || [ -L "$kept" ]; then rm -rf "$near"; cp -a -- "$kept" "$near"; mv -fT "$near" "$2"; rm -rf "$kept"
  elif [ "$1" = put ]; then rm -f -- "$2"; fi
  tidy "$kept"
}

tidy() { # BACKUP: leaves no empty directory where it was
  rmdir -p --ignore-fail-on-non-empty "${1%/*}" 2>/dev/null || true
}

into_place() { # STAGED PATH: by a rename, so that no reader ever sees a part of it
  [ ! -d "$2" ] || [ -L "$2" ] || fail "a directory stands where the file is to be: $2"
  [ -d "${2%/*}" ] || fail "there is no directory ${2%/*}"
  beside "$1" "$2"; mv -fT "$near" "$2"
}

beside() { # STAGED PATH: sets $near, from where a rename leads to PATH
  near=$1; [ "$(stat -c %d "$1")" != "$(stat -c %d "${2%/*}")" ] || return 0
  near=${2%/*}/.paddock-${2##*/}; rm -rf "$near"
  (umask 077; cp "$1" "$near") && chown --reference="$1" "$near" && chmod --reference="$1" "$near" || { rm -f "$near"; exit 1; }
  sync -f "$near"
}

directory() { # PATH OWNER GROUP MODE
  at "directory:$1"
  [ ! -L "$1" ] || fail "$1 is a symbolic link to $(readlink "$1"): remove it, or declare the directory that it leads to"
  [ ! -e "$1" ] || [ -d "$1" ] || fail "$1 is there and is no directory"
  [ -d "$1" ] || mkdir -m 700 -- "$1"
  chown "$2:$3" "$1"; chmod "$4" "$1"
}

extra() { # PATH: what lies in a directory that is Paddock's alone is put aside
  at "file:$1"; [ -e "$1" ] || [ -L "$1" ] || return 0
  aside=/var/lib/paddock/backup$1; mkdir -p "${aside%/*}"; rm -rf "$aside"; mv -T "$1" "$aside"
}

file() { # ORIGIN STAGED PATH
  at "file:$3"; [ "$1" != kept ] || backup "$3"; into_place "$stage/$2" "$3"
}

link() { # ORIGIN PATH TARGET
  at "link:$2"; [ "$1" != kept ] || backup "$2"
  [ ! -d "$2" ] || [ -L "$2" ] || fail "a directory stands where the link is to be: $2"
  ln -sfnT "$3" "$2.paddock"; mv -fT "$2.paddock" "$2"
}

untouched() { # PATH: whether a file is still as its package left it
  dpkg-query -W -f '${Conffiles}\n' | grep -qF " $1 $(md5sum <"$1" | cut -d' ' -f1)"
}

line() { # ORIGIN PATH TEXT
  at "line:$2: $3"
  if [ ! -f "$2" ] || { backup "$2"; untouched "$2"; }; then printf '%s\n' "$3" >"$stage/line"
  else cp "$2" "$stage/line"; [ -z "$(tail -c1 "$2")" ] || echo >>"$stage/line"; printf '%s\n' "$3" >>"$stage/line"; fi
  chmod 644 "$stage/line"; [ ! -f "$2" ] || { chown --reference="$2" "$stage/line"; chmod --reference="$2" "$stage/line"; }
  into_place "$stage/line" "$2"
}

release() { # CURRENT PATH FINGERPRINT PACKED GATE TRIAL: packed only where it does not lie here yet; `current` moves once it has passed its gate
  at "release:$1"
  if [ -n "$4" ]; then
    rm -rf "$2.paddock"; mkdir "$2.paddock"
    said=$(tar -xzf "$stage/$4" -C "$2.paddock" --strip-components=1 --no-same-owner --no-same-permissions 2>&1) || fail "$(printf '%s\n' "$said" | head -n 1)"
    said=$(cd "$2.paddock" && sha256sum --check --quiet MANIFEST 2>&1) || fail "came damaged: $(printf '%s\n' "$said" | head -n 1)"
    [ "$(cat "$2.paddock/.paddock-release")" = "$3" ] || fail "what came was built as $(cat "$2.paddock/.paddock-release"), not as $3"
    rm "$stage/$4"; chmod -R u=rwX,go=rX "$2.paddock"; sync -f "$2.paddock"; rm -rf "$2"; mv -T "$2.paddock" "$2"
  fi
  [ -n "$6" ] || fail "has not passed its gate: \`paddock up\` sees to that"
  said=$(sh "$stage/$5" "$2" "$stage/$6" 2>&1 </dev/null 9>&-) || { printf '%s\n' "$said" | sed '$d' >&2; fail "does not pass its gate, so the one before serves on: $(printf '%s\n' "$said" | tail -n 1 | sed 's/^the gate refuses it: //')"; }
  ln -sfnT "$2" "$1.paddock"; mv -fT "$1.paddock" "$1"
}

apt_ready() { # CONFIGURATION: once nobody else is at work with apt, makes whole what a run that died left half installed
  said=; export DEBIAN_FRONTEND=noninteractive
  printf '%s\n' 'APT::Update::Error-Mode "any";' 'DPkg::Lock::Timeout "300";' 'Dpkg::Use-Pty "false";' >"$1"; chmod 644 "$1"
  for try in $(seq 600); do pgrep -x 'apt-get|dpkg' >/dev/null || break; sleep 0.5; done
  ! apt-get -qq -o DPkg::Lock::Timeout=300 check >/dev/null 2>&1 9>&- || return 0
  dpkg --force-confold --configure -a >/dev/null 2>&1 </dev/null 9>&- || true  # what needs a package that was still to come fails here, and is next
  said=$(apt-get -y -q -f --no-install-recommends -o Dpkg::Options::=--force-confold -o DPkg::Lock::Timeout=300 install 2>&1 </dev/null 9>&-) ||
    { printf '%s\n' "$said" | grep -E '^([EW]|dpkg): |^ [a-z]' | tail -n 15 >&2; exit 1; }
}

root() { # PATH SUITE PACKAGE…: a tree of another release of Debian, to compile in
  at "root:$1"; root=$1 suite=$2; shift 2; made=$(printf '%s\n' "$suite" "$@" | sha256sum | cut -c 1-16)
  [ "$(cat "$root/.paddock-root" 2>/dev/null)" != "$made" ] || return 0
  mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | grep -m 1 -E '/debian/?$') || fail "this host's sources name no mirror of Debian"
  include=$(printf '%s,' "$@"); set --
  apt-config dump | grep -E '^Acquire::(https?::Proxy|Check-Valid-Until|Check-Date|ForceIPv[46]|Retries)' >"$stage/apt" || true
  while read -r option; do set -- "$@" "--aptopt=$option"; done <"$stage/apt"
  rm -rf "$root" "$root.paddock"; mkdir -p "$root.paddock"
  said=$(mmdebstrap --quiet --mode=root --variant=minbase --components=main,contrib,non-free "$@" --include="${include%,}" \
    "$suite" "$root.paddock" "$mirror" 2>&1 </dev/null 9>&-) || { printf '%s\n' "$said" | tail -n 8 >&2; fail "could not be made from $mirror"; }
  echo "$made" >"$root.paddock/.paddock-root"; mv -T "$root.paddock" "$root"
}

package_file() { # NAME STAGED: a newer package than the distribution's; what it needs may be in lists that apt has not fetched yet
  at "package:$1"; mv -T "$stage/$2" "$stage/$1.deb"
  said=$(package_of "$stage/$1.deb") || { said=$(apt-get update -q 2>&1 </dev/null 9>&- && package_of "$stage/$1.deb"); } ||
    { printf '%s\n' "$said" | tail -n 8 >&2; fail "could not be installed"; }
}

package_of() { # FILE
  DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends --allow-downgrades -o Dpkg::Options::=--force-confold \
    -o DPkg::Lock::Timeout=300 "$1" 2>&1 </dev/null 9>&-
}

holders() { # PORT/PROTOCOL: the units and processes that listen on it
  ss -Hlnp --"${1#*/}" "sport = :${1%/*}" | grep -o '"[^"]*",pid=[0-9]*' | sort -u | while IFS=, read -r name pid; do
    pid=${pid#pid=}; unit=$(sed -n 's|^0::.*/\([^/]*\.service\)$|\1|p; s|^[0-9]*:name=systemd:.*/\([^/]*\.service\)$|\1|p' "/proc/$pid/cgroup" | head -n1)
    echo "${unit:-none} $name (pid $pid)"
  done
}

manager() { # SERVICE ARGUMENT…: systemctl of the manager that it belongs to: the system's, or that of the account which stands before a slash
  case $1 in
    */*) account=${1%%/*} unit=${1#*/}; shift; runuser -u "$account" -- env XDG_RUNTIME_DIR="/run/user/$(id -u "$account")" systemctl --user "$@" "$unit" ;;
    *) unit=$1; shift; systemctl "$@" "$unit" ;;
  esac
}

awake() { # ACCOUNT: its manager runs, and reads its units anew
  id -u "$1" >/dev/null 2>&1 || fail "there is no account $1 on this host: make it, or leave roles.llama_server.user out"
  systemctl start "user@$(id -u "$1").service" || fail "the manager of $1's own services does not come up"
  runuser -u "$1" -- env XDG_RUNTIME_DIR="/run/user/$(id -u "$1")" systemctl --user daemon-reload
}

vacate() { at "service:$1"; manager "$1" stop; } # SERVICE: it is started again in this run, on another port

hold() { # SERVICE: what a package brings must not start before its files have landed; a mask in /run ends with the next boot at the latest
  systemctl is-active --quiet "$1" || { mkdir -p /run/systemd/system; ln -sfnT /dev/null "/run/systemd/system/$1"; }
}

unhold() { # SERVICE
  [ "$(readlink "/run/systemd/system/$1" || true)" != /dev/null ] || rm -f "/run/systemd/system/$1"
}

valid() { # SERVICE COMMAND
  at "service:$1"; said=$(sh -c "$2" 2>&1 </dev/null 9>&-) ||
    fail "its configuration is refused, so it was left as it is: $(printf '%s\n' "$said" | grep . | tail -n 1)"
}

service() { # NAME VERB TIMEOUT PORT…: `reset-failed` because systemd refuses a sixth start within ten seconds, also one that we ask for
  service=$1 name=${1#*/} verb=$2 timeout=$3; at "service:$service"; shift 3
  for port; do
    other=$(holders "$port" | grep -v "^$name " | cut -d' ' -f2- | head -n1)
    [ -z "$other" ] || { at "port:$port"; fail "port $port, which $name is to listen on, is taken by $other"; }
  done
  said=$(manager "$service" enable --quiet 2>&1) || fail "cannot be enabled: $(printf '%s\n' "$said" | tail -n 1)"
  manager "$service" reset-failed 2>/dev/null || true
  since=$(date +%s)
  [ "$verb" = none ] || manager "$service" "$verb" >/dev/null 2>&1 || unwell "$service" "$since" "did not come up"
  until listening "$@"; do
    case $(manager "$service" show -P SubState) in running|reload*|start*) ;; *) unwell "$service" "$since" "did not come up";; esac
    [ $(($(date +%s) - since)) -lt "$timeout" ] || unwell "$service" "$since" "does not listen on port $missing after $timeout s"
    sleep 0.1
  done
}

listening() { for missing; do holders "$missing" | grep -q "^$name " || return 1; done; missing=; }

unwell() { # SERVICE SINCE WORDS: with the line of its own that tells most, and what stands around it
  journalctl -q --sync 2>/dev/null || true
  case $1 in */*) of=_SYSTEMD_USER_UNIT where="--user -M ${1%%/*}@ " ;; *) of=_SYSTEMD_UNIT where= ;; esac
  said=$(journalctl -q -o cat --no-pager --since "@$2" -n 100 "$of=${1#*/}") || true
  told=$(printf '%s\n' "$said" | grep -iE ' E |error|fail|fatal|invalid|unable|cannot|denied|no such' | tail -n 1)
  if [ -n "$where" ]; then printf '%s\n' "$said" | tail -n 12 >&2; else journalctl -q -u "$1" --since "@$2" -n 12 -o cat --no-pager >&2 || true; fi
  echo "the whole log is on the host: journalctl $where-u ${1#*/}" >&2
  [ -n "$told" ] || told=$(printf '%s\n' "$said" | tail -n 1)
  fail "$3${told:+: $told}"
}

unvouched() { # SERVICE WHAT…: its note says no more what it was `started` with, or has `loaded`
  case $1 in
    */*) account=${1%%/*}; id -u "$account" >/dev/null 2>&1 || return 0; note=/run/user/$(id -u "$account")/paddock/$account--${1#*/}; shift
         for what; do runuser -u "$account" -- rm -f "$note.$what"; done ;;
    *) note=/run/paddock/$1; shift; for what; do rm -f "$note.$what"; done ;;
  esac
}

gone_service() {
  at "service:$1"; unhold "${1#*/}"; manager "$1" disable --quiet --now 2>/dev/null || true; manager "$1" reset-failed 2>/dev/null || true
  unvouched "$1" started loaded
}
gone_file() { at "file:$2"; restore "$1" "$2"; } # ORIGIN PATH
gone_link() { at "link:$2"; restore "$1" "$2"; } # ORIGIN PATH
gone_line() { # PATH TEXT: the rest of the file is somebody else's, and stays as they have it now
  at "line:$1: $2"; [ -f "$1" ] || return 0
  kept=/var/lib/paddock/backup$1; grep -qxF -e "$2" "$1" || { rm -rf "$kept"; tidy "$kept"; return 0; }
  grep -vxF -e "$2" "$1" >"$stage/line" || true
  if [ ! -s "$stage/line" ] || { [ -f "$kept" ] && { cat "$kept"; [ -z "$(tail -c1 "$kept")" ] || echo; } | cmp -s - "$stage/line"; }; then restore put "$1"
  else chown --reference="$1" "$stage/line"; chmod --reference="$1" "$stage/line"; into_place "$stage/line" "$1"; rm -rf "$kept"; tidy "$kept"; fi
}
gone_directory() { at "directory:$1"; [ ! -d "$1" ] || rmdir --ignore-fail-on-non-empty "$1"; }
gone_release() { at "release:$1"; systemctl stop --quiet 'paddock-build-*' 2>/dev/null || true; rm -rf -- "$1" "${1%/*}/releases" /var/lib/paddock/build; }
gone_packages() { # NAME…: with what came along for them. What something else needs stays, and so does what nothing needed before Paddock came
  at "package:$1"; noted=/var/lib/paddock/orphans
  apt_ready /run/paddock/apt.conf
  [ -e "$noted" ] || { orphans >"$noted.new"; mv "$noted.new" "$noted"; }
  for name; do
    case $(dpkg-query -W -f '${db:Status-Abbrev}' "$name" 2>/dev/null) in
      ?i*) apt-mark -qq auto "$name" >/dev/null;;
      ?c*) dpkg --purge "$name" >/dev/null 2>&1 9>&-;;
    esac
  done
  # What is to go is noted first: apt forgets why a package is there before the package has gone.
  { orphans | grep -vxF -f "$noted"; [ ! -e "$noted.going" ] || cat "$noted.going"; } | sort -u >"$noted.new"; mv "$noted.new" "$noted.going"
  set -- $(xargs -r dpkg-query -W -f '${db:Status-Abbrev}\t${Package}\n' <"$noted.going" 2>/dev/null | sed -n 's/^.[^n].*\t//p')
  [ $# = 0 ] || DEBIAN_FRONTEND=noninteractive apt-get purge -y -q -o DPkg::Lock::Timeout=120 "$@" >/dev/null 9>&-
  rm "$noted" "$noted.going"
}
orphans() { # the packages that nothing needs and nobody asked for; a recommendation or a suggestion is no need
  apt-get -s -o APT::AutoRemove::RecommendsImportant=false -o APT::AutoRemove::SuggestsImportant=false autoremove | sed -nE 's/^(Remv|Purg) ([^ ]*).*/\2/p'
}
gone_user() { # NAME: but not that of a package that stays
  at "user:$1"; case $(dpkg-query -W -f '${db:Status-Abbrev}' "$1" 2>/dev/null) in ?i*) return 0;; esac
  ! getent passwd "$1" >/dev/null || said=$(userdel "$1" 2>&1) || fail "$said"
}
gone_manifest() { at manifest; rm -rf /var/lib/paddock/build /var/lib/paddock/roots /var/lib/paddock/digests; rm -f /var/lib/paddock/manifest; }
again_service() { at "service:$1"; [ -z "$(manager "$1" show -P FragmentPath)" ] || manager "$1" try-restart; }
