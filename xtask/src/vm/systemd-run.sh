#!/bin/busybox sh
# Does what `systemd-run --user --scope -p Delegate=yes -- COMMAND…` has the user's service manager do: makes a group that
# belongs to the user, enters it, and becomes the command.
scope=/sys/fs/cgroup/user/$$.scope

while [ "$1" != -- ]; do
  case $1 in
    --user | --scope | --quiet | --collect) shift ;;
    -p) [ "$2" = Delegate=yes ] || exit 1; shift 2 ;;
    *) echo "systemd-run: unknown option $1" >&2; exit 1 ;;
  esac
done
shift
mkdir "$scope" && echo 0 >"$scope/cgroup.procs" && exec "$@"
