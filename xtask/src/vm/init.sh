#!/bin/busybox sh
# The first process of a guest: sets the machine up, runs each line of /jobs, says on the second serial line how
# each ended, and turns the machine off. The first serial line is the kernel's own, so that neither cuts into the
# other. From the kernel's command line come ZRAM (a size, or unset) and MGLRU (y or n).
/bin/busybox --install -s /bin
export PATH=/bin TMPDIR=/scratch HOME=/scratch RUST_BACKTRACE=1 VRANGE_TEST_EMULATED=1

# A job that runs longer than this is stuck; those after it still get their turn. The longest has taken fifteen minutes
# while the machine outside was busy.
job_seconds_max=2400

mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mount -t tmpfs tmp /tmp
mount -t cgroup2 cgroup /sys/fs/cgroup
exec </dev/null >/dev/ttyS1 2>&1

give_up() {
  echo "@vm setup-failed $*"
  sleep 1
  poweroff -f
}

echo "+memory +cpu" >/sys/fs/cgroup/cgroup.subtree_control || give_up "the memory controller cannot be delegated"
[ -r /proc/pressure/memory ] || give_up "the kernel measures no pressure"

# Tests that stream files need page cache that can be reclaimed, which a file system in memory does not have.
mke2fs /dev/nvme0n1 >/dev/null 2>&1 || give_up "no file system can be made on the disk"
mount -t ext4 /dev/nvme0n1 /scratch || give_up "the disk cannot be mounted"
chmod 1777 /scratch /tmp

if [ -n "$ZRAM" ]; then
  for module in /modules/*.ko; do insmod "$module" 2>/dev/null; done
  echo "$ZRAM" >/sys/block/zram0/disksize && mkswap /dev/zram0 >/dev/null && swapon /dev/zram0 ||
    give_up "no zram swap of $ZRAM"
fi
echo "$MGLRU" >/sys/kernel/mm/lru_gen/enabled || give_up "the multi-generational LRU cannot be set to '$MGLRU'"

# Files for the demo, with contents that do not compress and are not zero.
if grep -q '/scratch/files' /jobs; then
  mkdir /scratch/files
  for number in $(seq 1 240); do
    dd if=/dev/urandom of="/scratch/files/$number" bs=64k count=$((number % 16 + 8)) 2>/dev/null
  done
fi

echo "@vm ready $(uname -r) lru_gen=$(cat /sys/kernel/mm/lru_gen/enabled) swap=$(sed -n 's/^SwapTotal: *//p' /proc/meminfo)"
while read -r program arguments; do
  echo "@vm begin $program $arguments"
  # shellcheck disable=SC2086 # the arguments are words
  timeout "$job_seconds_max" "$program" $arguments </dev/null
  status=$?
  # A program may end in the middle of a line.
  echo
  echo "@vm end $status"
done </jobs
echo "@vm done"
# The last line has to be through the serial line before the machine is off.
sleep 1
poweroff -f
