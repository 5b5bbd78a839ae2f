# Written by Paddock. Loads NVIDIA's driver and makes its devices, or says what is in the way.
cannot() { echo "cannot use the NVIDIA cards: $1"; exit 1; }

if [ ! -e /proc/driver/nvidia/version ]; then
  ! grep -qs '^nouveau ' /proc/modules || cannot "nouveau has held them since before the driver was installed: restart the machine, then \`paddock up\` again"
  said=$(modprobe nvidia 2>&1) || case $said in
    *"not found in directory"*) cannot "there is no module for the running kernel $(uname -r): bring it up to date (apt-get full-upgrade), restart the machine, then \`paddock up\` again; \`dkms status\` says what was built";;
    *"Key was rejected"*|*"Required key"*) cannot "Secure Boot takes signed modules only: enrol the key of DKMS (mokutil --import), or switch it off";;
    *) cannot "the driver does not load: ${said:-modprobe says nothing}";;
  esac
fi
said=$(nvidia-smi --list-gpus 2>&1) || case $said in
  *mismatch*) cannot "the driver was upgraded, and the old one is loaded still: restart the machine, then \`paddock up\` again";;
  *) cannot "$(printf '%s\n' "${said:-nvidia-smi says nothing}" | head -n 1)";;
esac
printf '%s\n' "$said" | grep '^GPU' || cannot "the driver lists none: \`journalctl --dmesg --grep NVRM\` says why"
said=$(modprobe nvidia-uvm 2>&1) || cannot "CUDA's part of the driver does not load: $said"
# A program without root's rights cannot make it, and nothing else does on a machine without a screen.
[ -e /dev/nvidia-uvm ] || mknod -m 666 /dev/nvidia-uvm c "$(awk '$2 == "nvidia-uvm" { print $1 }' /proc/devices)" 0 || cannot "/dev/nvidia-uvm cannot be made"
