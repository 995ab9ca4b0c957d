#!/bin/sh
# Outlives a test that is killed: when standard input ends before the word "done" came, clears the scene in $1, as
# reap.rs does. Started by scene.rs in a process group of its own.
read -r word
[ "$word" = done ] && exit 0
scene=$1
[ -d "$scene" ] || exit 0
own() { awk -v d="$scene/" 'index($5, d) == 1 && / - fuse/ { sub(/.*:/, "", $3); print $3 }' /proc/self/mountinfo; }
# First of all: what hangs on a mount may not even tell its environment.
for connection in $(own); do
    echo 1 2>/dev/null >"/sys/fs/fuse/connections/$connection/abort"
done
pids=
connections=
for process in /proc/[0-9]*; do
    pid=${process#/proc/}
    [ "$pid" = $$ ] && continue
    if tr '\0' '\n' <"$process/environ" 2>/dev/null | grep -qxF "LAYERFS_TEST_SCENE=$scene"; then
        pids="$pids $pid"
        connections="$connections $(awk -v d="$scene/" 'index($5, d) == 1 && / - fuse/ { sub(/.*:/, "", $3); print $3 }' "$process/mountinfo" 2>/dev/null)"
    fi
done
for connection in $connections; do
    echo 1 2>/dev/null >"/sys/fs/fuse/connections/$connection/abort"
done
for pid in $pids; do
    kill -9 "$pid" 2>/dev/null
done
awk -v d="$scene/" 'index($5, d) == 1 { print $5 }' /proc/self/mountinfo | sort -r | while read -r point; do
    umount -l "$point" 2>/dev/null || fusermount3 -uz "$point" 2>/dev/null
done
chmod -R u+rwX "$scene" 2>/dev/null
rm -rf --one-file-system "$scene"
