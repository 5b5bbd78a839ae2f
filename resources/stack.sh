# Compose projects, images and volumes.
#
# shellcheck disable=SC2154 # $tab is set where this is sourced: see base.sh

# The images that are there, the volumes with the stack that each is of, and each container of the projects: project,
# service, the digest of what it is made of, state, health, how often it was restarted, and its image
probe_stack() {
  command -v docker >/dev/null || return 0
  section image
  for each in $(images); do
    ! docker image inspect "$each" >/dev/null 2>&1 </dev/null || printf '%s\tthere\n' "$each"
  done
  section volume
  for each in $(volumes); do
    ! owner=$(volume_owner "$each") || printf '%s\t%s\n' "$each" "$owner"
  done
  section container
  stack_format
  for each in $(stacks); do
    # shellcheck disable=SC2046 # a line an id: IFS is a line break
    set -- $(stack_containers "$each")
    [ $# = 0 ] || docker inspect --format "$format" "$@" 2>/dev/null </dev/null
  done
}

# PROJECT: the ids of its containers, those that do not run too
stack_containers() {
  docker ps --all --quiet --no-trunc --filter "label=com.docker.compose.project=$1" 2>/dev/null </dev/null
}

# Sets $format, for `docker inspect`: a line a container
stack_format() {
  label='{{index .Config.Labels "%s"}}\t'
  # shellcheck disable=SC2059 # a format made of one
  format=$(printf "$label$label$label" com.docker.compose.project com.docker.compose.service paddock.declared)
  format="$format{{.State.Status}}$tab{{with .State.Health}}{{.Status}}{{end}}$tab{{.RestartCount}}$tab{{.Image}}"
}

# NAME REFERENCE: by its digest
put_image() {
  at "image:$1"
  ! docker image inspect "$1" >/dev/null 2>&1 </dev/null || return 0
  said=$(docker pull --quiet "$2" 2>&1 </dev/null 9>&-) || {
    case $said in
      *'manifest unknown'* | *'not found'*)
        fail "its registry has no image of this digest any more: pin another" ;;
      *'no space left'*) stack_full ;;
    esac
    fail "cannot be fetched: $(printf '%s\n' "$said" | tail -n 1)"
  }
  [ "$1" = "$2" ] || docker image tag "$2" "$1" </dev/null
}

# NAME FILE DONE STAGED: a piece of its file, at its place
image_append() {
  at "image:$1"
  (umask 077 && mkdir -p "${2%/*}")
  # shellcheck disable=SC2154 # $stage is set where this is sourced
  dd if="$stage/$4" of="$2" bs=1M oflag=seek_bytes seek="$3" conv=notrunc status=none
}

# NAME FILE SHA256: from its file, which goes
put_brought_image() {
  at "image:$1"
  if [ "$(sha256sum <"$2" | cut -c 1-64)" != "$3" ]; then
    rm -f "$2"
    fail "its file is not as it was sent, so it was not loaded: run it again"
  fi
  said=$(docker load --quiet --input "$2" 2>&1 </dev/null 9>&-) || {
    rm -f "$2"
    case $said in *'no space left'*) stack_full ;; esac
    fail "cannot be loaded: $(printf '%s\n' "$said" | tail -n 1)"
  }
  rm -f "$2"
  rmdir "${2%/*}" 2>/dev/null || true
  docker image inspect "$1" >/dev/null 2>&1 </dev/null || fail "was loaded, and is not there: $said"
}

# REFERENCE: other containers of the host may be made of it
gone_image() {
  at "image:$1"
  ! command -v docker >/dev/null || docker image rm "$1" >/dev/null 2>&1 </dev/null || true
}

# Fails: what Docker keeps has no room
stack_full() {
  root=$(docker info --format '{{.DockerRootDir}}' 2>/dev/null </dev/null) || root=/var/lib/docker
  fail "no room is left in $root, where Docker keeps images: make some there (\`docker system df\` helps)"
}

# NAME: the stack that it is of, nothing where it is somebody else's; fails where there is none
volume_owner() {
  docker volume inspect --format '{{index .Labels "paddock.volume"}}' "$1" 2>/dev/null </dev/null
}

# NAME STACK: what somebody else has under this name is left as it is
put_volume() {
  at "volume:$1"
  if owner=$(volume_owner "$1"); then
    [ "$owner" != "$2" ] || return 0
    [ -z "$owner" ] || owner="the stack $owner"
    fail "the volume of this name is of ${owner:-somebody else}: rename one of them, or remove that one"
  fi
  said=$(docker volume create --label "paddock.volume=$2" "$1" 2>&1 </dev/null) || fail "cannot be made: $said"
}

# NAME: one that is somebody else's stays
gone_volume() {
  at "volume:$1"
  command -v docker >/dev/null || return 0
  owner=$(volume_owner "$1") && [ -n "$owner" ] || return 0
  said=$(docker volume rm "$1" 2>&1 </dev/null) || fail "cannot be removed: $(printf '%s\n' "$said" | tail -n 1)"
}

# PROJECT: where the files are kept that it runs with
stack_kept() {
  echo "/var/lib/paddock/kept/$1.stack"
}

# PROJECT DIRECTORY: keeps the files of one that runs. What was kept by a run that was ended is older, and stays
stack_keep() {
  kept=$(stack_kept "$1")
  [ ! -d "$kept" ] && [ -d "$2" ] && [ -n "$(stack_containers "$1")" ] || return 0
  rm -rf "$kept.new"
  (umask 077 && mkdir -p "${kept%/*}" && cp -a -- "$2" "$kept.new")
  mv -T "$kept.new" "$kept"
}

# NAME DIRECTORY SECONDS CONTAINER…: makes anew what is made of something else by now, and leaves the rest running
put_stack() {
  at "stack:$1"
  project=paddock-$1
  directory=$2
  seconds=$3
  stack_engine
  shift 3
  stack_foreign "$project"
  said=$(stack_compose config --quiet 2>&1) ||
    stack_unwell "its compose.yml is refused: $(printf '%s\n' "$said" | tail -n 1)"
  stack_ports
  said=$(stack_up 2>&1) ||
    stack_unwell "does not come up: $(stack_why "$said")"
  rm -rf "$(stack_kept "$project")"
  rmdir /var/lib/paddock/kept 2>/dev/null || true
}

# Of $project with the files of $directory
stack_compose() {
  docker compose --ansi never --progress plain --project-name "$project" --project-directory "$directory" \
    --file "$directory/compose.yml" "$@" </dev/null 9>&-
}

# What it does not use any more goes
stack_up() {
  stack_compose up --detach --no-build --pull never --remove-orphans --wait --wait-timeout "$seconds"
}

# Whether there is an engine that can do what is asked of it
stack_engine() {
  docker version --format '{{.Server.Version}}' >/dev/null 2>&1 </dev/null ||
    fail "no Docker engine answers here: \`systemctl status docker\` says why"
  version=$(docker compose version --short 2>/dev/null </dev/null) || fail "this host's docker has no \`compose\`"
  version=${version#v}
  major=${version%%.*}
  minor=${version#*.}
  minor=${minor%%.*}
  [ "$major" -gt 2 ] || { [ "$major" = 2 ] && [ "$minor" -ge 17 ]; } ||
    fail "Docker Compose $version is too old: 2.17 or newer"
}

# PROJECT: fails where somebody else has one of this name
stack_foreign() {
  for id in $(stack_containers "$1"); do
    format='{{index .Config.Labels "paddock.declared"}} {{.Name}}'
    found=$(docker inspect --format "$format" "$id" </dev/null) || continue
    case $found in
      ' '*) fail "somebody else's Compose project is called $1 (its container ${found#* /}): rename that one" ;;
    esac
  done
}

# Fails where a container of another project has a port that this one publishes
stack_ports() {
  stack_compose config --format json | tr -d ' \n' | grep -o '"published":"[0-9]*"' | grep -o '[0-9]*' | sort -u |
    while read -r port; do
      docker ps --filter "publish=$port" --format '{{.Names}} {{.Label "com.docker.compose.project"}}' </dev/null |
        while read -r holder of; do
          [ "$of" = "$project" ] || fail "port $port, which it publishes, is held by the container $holder"
        done || exit 1
    done
}

# SAID: the line that tells most of why it is not up: a container's own, where one does not stay
stack_why() {
  format='{{index .Config.Labels "com.docker.compose.service"}} {{.State.Status}}'
  format="$format {{.RestartCount}} {{with .State.Health}}{{.Status}}{{end}}"
  for id in $(stack_containers "$project"); do
    found=$(docker inspect --format "$format" "$id" </dev/null) || continue
    name=${found%% *}
    health=${found##* }
    restarts=${found#* * }
    restarts=${restarts%% *}
    state=${found#* }
    state=${state%% *}
    case $state,$health in
      running, | running,healthy) ;;
      *)
        what=${health:-$state}
        [ "$restarts" = 0 ] || what="restarted again and again ($restarts times)"
        last=$(docker logs --tail 20 "$id" 2>&1 </dev/null | grep . | tail -n 1)
        echo "$name is $what${last:+: $last}"
        return
        ;;
    esac
  done
  printf '%s\n' "$1" | grep -iE 'error|fail|denied|no such|not found' | tail -n 1 | grep . ||
    printf '%s\n' "$1" | tail -n 1
}

# WORDS: what ran before runs again
stack_unwell() {
  words=$1
  docker compose --project-name "$project" logs --tail 12 --no-color >&2 2>&1 </dev/null || true
  echo "the whole log is on the host: docker compose -p $project logs" >&2
  kept=$(stack_kept "$project")
  if [ -d "$kept" ]; then
    rm -rf "$directory"
    mv -T "$kept" "$directory"
    rmdir /var/lib/paddock/kept 2>/dev/null || true
    if stack_up >/dev/null 2>&1; then
      fail "$words; its files are as they were before, and it runs with them"
    fi
    fail "$words; its files are as they were before, and it does not come up with them either"
  fi
  fail "$words"
}

# NAME: its containers and networks; volumes are data
gone_stack() {
  at "stack:$1"
  command -v docker >/dev/null || return 0
  said=$(docker compose --project-name "paddock-$1" down --remove-orphans --timeout 30 2>&1 </dev/null 9>&-) ||
    fail "cannot be taken down: $(printf '%s\n' "$said" | tail -n 1)"
  rm -rf "$(stack_kept "paddock-$1")"
}
