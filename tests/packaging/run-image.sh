#!/bin/sh
# run-image.sh ROOT VIEW USER GROUP FOLDER COMMAND…: runs a command of an image as a container runtime does it for
# `--read-only --cap-drop ALL --security-opt no-new-privileges`: as USER, with the root file system ROOT, of which only
# /data can be written. It is called in a mount namespace of its own, so that its mounts end with the process.
set -eu
root=$1 view=$2 user=$3 group=$4 folder=$5
shift 5
mount --bind "$root" "$view"
mount -o remount,bind,ro "$view"
mount --bind "$root/data" "$view/data"
mount -t proc -o nosuid,nodev,noexec proc "$view/proc"
mount -t tmpfs -o nosuid,noexec,mode=0755 tmpfs "$view/dev"
for device in null urandom; do
	touch "$view/dev/$device"
	mount --bind "/dev/$device" "$view/dev/$device"
done
mount -o remount,ro "$view/dev"
# No shell remains between the caller and the command: signals reach it, and its exit code comes back.
exec setpriv --clear-groups --regid "$group" --no-new-privs -- \
	unshare --root="$view" --wd="$folder" --setuid "$user" -- "$@"
