# Images of containers that their host builds itself.

# Each that is there: name, tag, the digest of what it is made of, and whether the directory of that is kept or gone
probe_localimage() {
  section localimage
  for each in $(local_images); do
    for reference in $(localimage_references "$each"); do
      found=$(localimage_labels "$reference") || continue
      kept=kept
      [ -d "${found#* }" ] || kept=gone
      printf '%s\t%s\t%s\t%s\n' "$each" "${reference##*:}" "${found%% *}" "$kept"
    done
  done
}

# [NAME]: NAME:TAG of each that was built here, a line each
localimage_references() {
  docker image ls --filter label=paddock.context --format '{{.Repository}}:{{.Tag}}' "$@" 2>/dev/null </dev/null |
    grep -v '<none>'
}

# REFERENCE: what it is made of, a blank, and the directory of that
localimage_labels() {
  labels='{{index .Config.Labels "paddock.inputs"}} {{index .Config.Labels "paddock.context"}}'
  docker image inspect --format "$labels" "$1" 2>/dev/null </dev/null
}

# NAME TAG INPUTS DOCKERFILE CONTEXT BASE
put_localimage() {
  at "localimage:$1"
  found=$(localimage_labels "$1:$2") || found=
  [ "${found%% *}" != "$3" ] || return 0
  docker version --format '{{.Server.Version}}' >/dev/null 2>&1 </dev/null ||
    fail "no Docker engine answers here: \`systemctl status docker\` says why"
  [ -d "$5" ] || fail "is to be made of $5, which is not there"
  base=
  [ -z "$6" ] || docker image inspect "$6" >/dev/null 2>&1 </dev/null || {
    put_image "$6" "$6"
    base=$6
    at "localimage:$1"
  }
  said=$(docker build --force-rm --tag "$1:$2" --label "paddock.inputs=$3" --label "paddock.context=$5" --file "$4" \
    "$5" 2>&1 </dev/null 9>&-) || {
    localimage_base_goes "$base"
    docker image prune --force --filter "label=paddock.build=$1" >/dev/null 2>&1 </dev/null || true
    # what is run is told too, with all of its own words
    said=$(printf '%s\n' "$said" | grep -vE "^Step |^The command '")
    printf '%s\n' "$said" | tail -n 12 >&2
    fail "cannot be built: $(localimage_why "$said")"
  }
  localimage_base_goes "$base"
}

# BASE: its name, where it was fetched for a build. Its layers stay for as long as an image is made of them
localimage_base_goes() {
  [ -z "$1" ] || docker image rm "$1" >/dev/null 2>&1 </dev/null || true
}

# SAID: the line of a build that tells most
localimage_why() {
  printf '%s\n' "$1" | sed -nE 's/^(#[0-9]+ [0-9.]+ )?paddock: error: //p' | tail -n 1 | grep . ||
    printf '%s\n' "$1" | grep -iE 'error|fail|denied|not found|no such' | tail -n 1 | grep . ||
    printf '%s\n' "$1" | tail -n 1
}

# NAME: all of its tags. What a container uses stays
gone_localimage() {
  at "localimage:$1"
  for reference in $(localimage_references "$1"); do
    docker image rm "$reference" >/dev/null 2>&1 </dev/null || true
  done
}

# NAME: no unit runs one any more, so that a container that is left was left behind
localimage_unused() {
  at "localimage:$1"
  for each in $(docker ps --all --quiet --filter "label=paddock.image=$1" 2>/dev/null </dev/null); do
    docker rm --force "$each" >/dev/null 2>&1 </dev/null || true
  done
  gone_localimage "$1"
}

# Drops those whose directory is gone, but for what a container uses
localimages_spare() {
  for reference in $(localimage_references); do
    at "localimage:${reference%:*}"
    found=$(localimage_labels "$reference") || continue
    [ -d "${found#* }" ] || docker image rm "$reference" >/dev/null 2>&1 </dev/null || true
  done
}
