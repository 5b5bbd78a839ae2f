#!/bin/sh
# Written by Paddock. Runs a llama-server in a container for as long as its unit runs. The engine may be restarted
# meanwhile: the container goes on, and this waits for the engine.
#
# container.sh run NAME DEVICE… -- ARGUMENT…   ARGUMENT… are those of `docker create`
# container.sh gone NAME
set -eu

# run NAME DEVICE… -- ARGUMENT…: what it says, and the code that it ends with, are this script's
run() {
  name=$1
  shift
  gone "$name"
  own="--name $name --label paddock.unit=$name --user $(id -u):$(id -g)"
  # as the unit has them, which is not more than the machine gives
  own="$own --ulimit memlock=$(limit 'locked memory') --ulimit nofile=$(limit 'open files')"
  while [ "$1" != -- ]; do
    own="$own --device $(readlink -f -- "$1")"
    grouped=yes
    shift
  done
  shift
  # shellcheck disable=SC2013 # a number a line
  for group in $([ -z "${grouped-}" ] || getent group render video | cut -d: -f3); do
    own="$own --group-add $group"
  done
  # shellcheck disable=SC2086 # words: neither a name nor a device has a blank in it
  docker create $own "$@" >/dev/null
  trap 'docker kill --signal TERM "$name" >/dev/null 2>&1 || true' TERM
  docker start "$name" >/dev/null
  since=0 code=
  until [ -n "$code" ]; do
    docker logs --follow --since "$since" "$name" &
    follow "$!"
    since=$(date +%s)
    code=$(ended)
  done
  gone "$name"
  exit "$code"
}

# limit WHAT: the hard one, -1 for none (proc(5))
limit() {
  sed -nE "s/^Max $1 +[^ ]+ +([^ ]+) .*/\\1/p" /proc/self/limits | sed 's/unlimited/-1/'
}

# follow PID: until it has ended; a signal ends a `wait`, too
follow() {
  until wait "$1" || ! kill -0 "$1" 2>/dev/null; do
    :
  done
}

# ended: the code that the container ended with; nothing while it runs, or while no engine can say
ended() {
  if ! docker version >/dev/null 2>&1; then
    sleep 1
    return 0
  fi
  # two braces in a row would be the template's
  format='{''{.State.Status}} {''{.State.ExitCode}}'
  said=$(docker inspect --format "$format" "$name" 2>/dev/null) || said='gone 1'
  case $said in
    created\ * | running\ * | restarting\ * | paused\ *) sleep 1 ;;
    *) echo "${said#* }" ;;
  esac
}

# gone NAME: nobody else's container of this name is touched
gone() {
  for each in $(docker ps --all --quiet --filter "label=paddock.unit=$1"); do
    docker rm --force "$each" >/dev/null
  done
}

verb=$1
shift
"$verb" "$@"
