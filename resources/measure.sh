# Measures a release, the canary, beside the one that serves, the baseline, on their host, as root:
#   sh measure.sh MEASUREMENT together|turns ROUNDS
# MEASUREMENT is what roles/llama_cpp/measuring.py packs. What is measured comes as a JSON object a line, the last one
# `{"event": "end"}`; control/lifecycle/measurements.py reads them. It leaves with 0 whatever becomes of the two.
#
# There are two passes, of which each starts both, asks them once for all that they are to do, and then ROUNDS times for
# what is timed. In one the baseline is the first, in the other the canary. `together` both run side by side and every
# request goes to the one and then to the other; in `turns` one is stopped before the other starts. What serves on the
# host is left alone. trial.sh stands in front of this file.
#
# shellcheck shell=sh disable=SC2154,SC2034 # set, or read, there
set -eu
trial=paddock-measure
home=/run/$trial
# all of it, for one answer, until a baseline is ready, and of an answer and of a log KiB
measure_s=14400 answer_s=300 first_ready_s=1800 answer_kib=8192 log_kib=65536

# try MEASUREMENT MANNER ROUNDS
try() {
  rc=0
  supervise "$measure_s" "A llama.cpp release is measured" "$(realpath "$1")" "$2" "$3" || rc=$?
  [ "$rc" = 0 ] || {
    echo "the measuring did not come to its end (status $rc): run it again, or see journalctl -u $trial" >&2
    exit 1
  }
}

# inside CALLER ITS-CALLER MEASUREMENT MANNER ROUNDS
inside() {
  ends_with "$1" "$2"
  cd "$home"
  tar -xf "$3" --no-same-owner
  manner=$4 rounds=$5
  for pass in 1 2; do
    order="baseline canary"
    [ "$pass" = 1 ] || order="canary baseline"
    # shellcheck disable=SC2086 # a word each
    if [ "$manner" = together ]; then
      measure $order
    else
      for one in $order; do
        measure "$one"
      done
    fi
  done
  echo '{"event": "end"}'
}

# measure SIDE…: what runs at the same time, from its start to its end
measure() {
  round=0
  for at_work; do
    begin "$at_work"
  done
  for request in once/*; do
    for at_work; do
      [ ! -d "$request" ] || asked "$at_work" "$request"
    done
  done
  # Round 0 is to warm up: shaders are compiled, pages are read.
  while [ "$round" -le "$rounds" ]; do
    for request in rounds/*; do
      for at_work; do
        [ ! -d "$request" ] || asked "$at_work" "$request"
      done
    done
    [ $# = 1 ] || set -- "$2" "$1"
    round=$((round + 1))
  done
  for at_work; do
    weigh "$at_work"
  done
  for at_work; do
    finish "$at_work"
  done
}

# at SIDE: the server at work. Fails where there is nothing more to measure, because either is gone
at() {
  side=$1 server=$trial-$1 socket=/run/$trial-$1/http.sock
  log=$1/log environment=$1/environment properties=$1/properties
  [ ! -e baseline/gone ] && [ ! -e canary/gone ]
}

# begin SIDE
begin() {
  at "$1" || return 0
  set --
  while IFS= read -r each; do
    set -- "$@" "$each"
  done <"$side/arguments"
  ready_s=$first_ready_s serves_s=$measure_s
  # A canary has four times what the baseline took, and a minute.
  [ "$side" = baseline ] || [ ! -s baseline/started ] || ready_s=$(($(cat baseline/started) / 25 + 60))
  began=$(clock)
  rc=0
  serve "$(cat "$side/program")" "$@" || rc=$?
  took=$(($(clock) - began))
  echo "$pid" >"$side/pid"
  if [ "$rc" != 0 ]; then
    late_s=$ready_s
    gone start "$(died "start" "$rc")"
    return 0
  fi
  [ -e "$side/started" ] || echo "$took" >"$side/started"
  printf '{"event": "started", "side": "%s", "pass": %d, "seconds": %d.%02d}\n' "$side" "$pass" \
    $((took / 100)) $((took % 100))
}

# clock: hundredths of a second since the machine's start
clock() {
  read -r up _ </proc/uptime
  echo "${up%.*}${up#*.}"
}

# asked SIDE REQUEST: asks the server for what is in that directory, and prints what came back
asked() {
  at "$1" || return 0
  name=$(cat "$2/name")
  rm -f answer trace
  # Each round has a prompt of its own, so that no server has a part of it from before.
  sed "s/@@/$pass.$round/" "$2/body" >body
  rc=0
  said=$(
    ulimit -f $((2 * answer_kib))
    exec curl -sS -N --max-time "$answer_s" --noproxy '*' --unix-socket "$socket" -H 'Content-Type: application/json' \
      --data-binary @body --trace-ascii trace --trace-time -o answer -w '%{http_code} %{time_total}' \
      "http://localhost$(cat "$2/path")" 2>/dev/null
  ) || rc=$?
  : >>answer
  : >>trace
  # shellcheck disable=SC2086 # two words, or none
  set -- ${said:-000 0}
  printf '{"event": "answer", "side": "%s", "pass": %d, "round": %d, "ask": "%s", "status": %d, "ended": %d, ' \
    "$side" "$pass" "$round" "$name" "$((1$1 % 1000))" "$rc"
  printf '"total_s": %s, %s, "answer": "%s"}\n' "$2" "$(moments <trace)" "$(head -c 262144 answer | base64 -w 0)"
  [ "$rc" != 0 ] || return 0
  if ! kill -0 "$(cat "$side/pid")" 2>/dev/null; then
    ended=0
    wait "$(cat "$side/pid")" || ended=$?
    gone "$name" "$(died "$name" "$ended")"
  elif [ "$rc" = 28 ]; then
    gone "$name" "$name: it has not answered in $answer_s s$(telling)"
  elif [ "$rc" = 23 ] || [ "$rc" = 153 ]; then
    gone "$name" "$name: its answer is longer than $answer_kib KiB"
  elif [ "$(du -k "$log" | cut -f 1)" -ge "$log_kib" ]; then
    gone "$name" "$name: it has written $log_kib KiB of log"
  fi
}

# moments: of what curl traced of an answer, when the first and the last event of a stream came, in seconds from when
# it had sent its question; 0 where no event came
moments() {
  awk '
    /^[0-9][0-9]:[0-9][0-9]:[0-9][0-9]\.[0-9]+ / {
      split($1, part, ":"); now = part[1] * 3600 + part[2] * 60 + part[3]
      if (begun != "" && now < begun) now += 86400
      if (begun == "" && $2 == "=>") begun = now
    }
    /^[0-9a-f]+: data: / { if (first == "") first = now - begun; last = now - begun }
    END { printf "\"first_s\": %.6f, \"last_s\": %.6f", first, last }'
}

# weigh SIDE: what the processes of the server hold
weigh() {
  at "$1" || return 0
  group=$(systemctl show -P ControlGroup "$server")
  host_kib=0 card_kib=0
  nvidia_cards
  # shellcheck disable=SC2013 # a word a process
  for process in $(cat "/sys/fs/cgroup$group/cgroup.procs" "/sys/fs/cgroup/systemd$group/cgroup.procs" 2>/dev/null |
    sort -u); do
    resident=$(awk '$1 == "VmRSS:" { print $2 }' "/proc/$process/status" 2>/dev/null) || resident=0
    host_kib=$((host_kib + ${resident:-0}))
    card_kib=$((card_kib + $(drm_kib "$process") + $(nvidia_kib "$process")))
  done
  printf '{"event": "memory", "side": "%s", "pass": %d, "host_kib": %d, "card_kib": %d}\n' "$side" "$pass" \
    "$host_kib" "$card_kib"
}

# finish SIDE: of a canary comes the end of its log, too
finish() {
  at "$1" || true
  [ -e "$side/pid" ] || return 0
  pid=$(cat "$side/pid")
  rm "$side/pid"
  end 2>/dev/null
  [ "$side" = baseline ] || [ ! -s "$log" ] ||
    printf '{"event": "log", "side": "%s", "pass": %d, "text": "%s"}\n' "$side" "$pass" \
      "$(tail -c 65536 "$log" | base64 -w 0)"
}

# gone ASK WORDS: the server is measured no further, for this reason
gone() {
  printf '{"event": "gone", "side": "%s", "pass": %d, "ask": "%s", "why": "%s"}\n' "$side" "$pass" "$1" \
    "$(printf '%s' "$2" | cut -c 1-600 | base64 -w 0)"
  : >"$side/gone"
}

# refuse WORDS…: why a server ended, to whom asked
refuse() {
  echo "$*"
  exit 0
}

case $1 in
  --inside)
    shift
    inside "$@"
    ;;
  *) try "$@" ;;
esac
