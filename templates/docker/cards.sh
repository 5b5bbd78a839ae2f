#!/bin/sh
# Written by Paddock. Describes the NVIDIA cards for Docker, as CDI has it, or says what is in the way. What it wrote
# before stays until it has succeeded.
set -eu

# cannot WHY
cannot() {
  echo "cannot describe the NVIDIA cards for Docker: $1"
  exit 1
}

command -v nvidia-ctk >/dev/null ||
  cannot "there is no nvidia-ctk: give the role docker its \`toolkit\`, or install {{ package }}"
if ! said=$(nvidia-ctk cdi generate --output=/run/cdi/nvidia.yaml 2>&1); then
  case $said in
    *mismatch*)
      cannot "the driver was upgraded, and the old one is loaded still: restart the machine"
      ;;
    *) cannot "$(printf '%s\n' "${said:-nvidia-ctk says nothing}" | tail -n 1)" ;;
  esac
fi
