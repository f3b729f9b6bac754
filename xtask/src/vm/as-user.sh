#!/bin/busybox sh
# Runs a command that ends with a line of JSON, `vrange demo … --json`, as an ordinary user, in a cgroup below one that
# belongs to that user, as on a machine with a service manager. Checks that it made its groups there, and none is left.
home=/sys/fs/cgroup/user

mkdir -p "$home/session"
echo "+memory +cpu" >"$home/cgroup.subtree_control" || exit 1
chown nobody "$home" "$home/session" "$home"/cgroup.procs "$home"/cgroup.subtree_control "$home"/cgroup.threads \
  "$home"/session/cgroup.*

output=/tmp/as-user.json
(
  echo 0 >"$home/session/cgroup.procs"
  exec su -s /bin/sh nobody -c "exec $*"
) >"$output"
status=$?
cat "$output"
[ "$status" = 0 ] || exit "$status"

grep -q '"pressure": *"cgroup-v2"' "$output" || { echo "no cgroup of the user's was used"; exit 1; }
# What the service manager would remove is the scope and the leaf in it.
left=$(find "$home" -type d -name 'vrange-demo-[0-9]*')
[ -z "$left" ] || { echo "left behind: $left"; exit 1; }
