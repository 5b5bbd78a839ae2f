#!/bin/sh
# Written by Paddock. Loads NVIDIA's driver and makes its devices, or says what is in the way.
set -eu

# cannot WHY
cannot() {
  echo "cannot use the NVIDIA cards: $1"
  exit 1
}

if [ ! -e /proc/driver/nvidia/version ]; then
  if grep -qs '^nouveau ' /proc/modules; then
    cannot "nouveau has held them since before the driver was installed: restart the machine, then \`paddock up\` again"
  fi
  if ! said=$(modprobe nvidia 2>&1); then
    case $said in
      *"not found in directory"*)
        cannot "there is no module for the running kernel $(uname -r): bring it up to date (apt-get full-upgrade),\
 restart the machine, then \`paddock up\` again; \`dkms status\` says what was built"
        ;;
      *"Key was rejected"* | *"Required key"*)
        cannot "Secure Boot takes signed modules only: enrol the key of DKMS (mokutil --import), or switch it off"
        ;;
      *) cannot "the driver does not load: ${said:-modprobe says nothing}" ;;
    esac
  fi
fi
if ! said=$(nvidia-smi --list-gpus 2>&1); then
  case $said in
    *mismatch*)
      cannot "the driver was upgraded, and the old one is loaded still: restart the machine, then \`paddock up\` again"
      ;;
    *) cannot "$(printf '%s\n' "${said:-nvidia-smi says nothing}" | head -n 1)" ;;
  esac
fi
printf '%s\n' "$said" | grep '^GPU' || cannot "the driver lists none: \`journalctl --dmesg --grep NVRM\` says why"
said=$(modprobe nvidia-uvm 2>&1) || cannot "CUDA's part of the driver does not load: $said"
# A program without root's rights cannot make it, and nothing else does on a machine without a screen.
if [ ! -e /dev/nvidia-uvm ]; then
  major=$(awk '$2 == "nvidia-uvm" { print $1 }' /proc/devices)
  mknod -m 666 /dev/nvidia-uvm c "$major" 0 || cannot "/dev/nvidia-uvm cannot be made"
fi
