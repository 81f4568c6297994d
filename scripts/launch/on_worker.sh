#!/usr/bin/env bash
# One worker's part of tpu_vm.sh, which calls it in a copy of the repository, ~/fer_jax/repository:
#   install [SOURCE ...]      the environment, and converted weights by their names in convert_weights.py --list
#   mount SERVER:/EXPORT      an NFS export at ~/fer_jax/shared
#   start ARGUMENT ...        train.py with these arguments, which a lost connection does not end
#   follow                    the log of train.py, until it ends
#   state [ARGUMENT ...]      `running`, `other` where other arguments are running, `stopped` after `stop`, else the exit
#                             status of the last train.py, or `none`
#   stop                      asks train.py to save and end
#   pack WORKDIR              a folder below ~/fer_jax/shared as ~/fer_jax/results.tar.gz
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/../.."
base=$PWD/..

# The lock is held by train.py and by the shell that waits for it, and goes with them: unlike a number of a process, it
# cannot become somebody else's.
running() { [ -e "$base/lock" ] && ! flock --nonblock "$base/lock" true; }

install() {
    local python found=''
    for python in python3 python3.13 python3.12 python3.11; do
        "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && found=yes
    done
    # The images of TPU VMs may have an older one alone.
    if [ -z "$found" ]; then
        sudo apt-get update -qq
        sudo apt-get install -qq -y python3.11 python3.11-venv
    fi
    # In a shell of its own: the file is made to be sourced.
    bash -euo pipefail -c 'source scripts/environment.sh "[tpu,gcs]"'
    local source
    for source in "$@"; do
        .venv/bin/python scripts/convert_weights.py --source "$source"
    done
}

mount_shared() {
    mkdir -p "$base/shared"
    mountpoint -q "$base/shared" && return
    command -v mount.nfs >/dev/null || { sudo apt-get update -qq && sudo apt-get install -qq -y nfs-common; }
    sudo mount -t nfs "$1" "$base/shared"
    # A new export belongs to root.
    [ -w "$base/shared" ] || sudo chown "$(id -u)" "$base/shared"
}

start() {
    exec 9>"$base/lock"
    flock --nonblock 9 || { echo "error: a run is under way here" >&2; exit 2; }
    rm -f "$base/status" "$base/pid" "$base/stop_asked"
    printf '%q ' "$@" >"$base/arguments"
    [ ! -e "$base/log" ] || mv "$base/log" "$base/log.previous"
    setsid nohup bash scripts/launch/on_worker.sh supervise "$@" >"$base/log" 2>&1 </dev/null &
    while [ ! -s "$base/pid" ]; do
        kill -0 $! || { echo "error: could not be started; see ~/fer_jax/log" >&2; exit 1; }
        sleep 0.1
    done
}

supervise() {
    local status=0
    .venv/bin/python -u scripts/train.py "$@" &
    echo $! >"$base/pid"
    wait $! || status=$?
    echo "$status" >"$base/status"
}

follow() {
    tail --pid="$(cat "$base/pid")" -n +1 -f "$base/log"
    while running && [ ! -s "$base/status" ]; do sleep 0.1; done
}

state() {
    if ! running; then
        local status
        status=$(cat "$base/status" 2>/dev/null || echo none)
        [ "$status" != 75 ] || [ ! -e "$base/stop_asked" ] || status=stopped
        echo "$status"
    elif [ "$(printf '%q ' "$@")" = "$(cat "$base/arguments")" ]; then
        echo running
    else
        echo other
    fi
}

case ${1-} in
    install) install "${@:2}" ;;
    mount) mount_shared "$2" ;;
    start) start "${@:2}" ;;
    supervise) supervise "${@:2}" ;;
    follow) follow ;;
    state) state "${@:2}" ;;
    stop)
        touch "$base/stop_asked"
        ! running || kill -TERM "$(cat "$base/pid")"
        ;;
    pack) tar -C "$base/shared" -czf "$base/results.tar.gz" -- "$2" ;;
    *) echo "error: ${1-}: expected install, mount, start, follow, state, stop or pack" >&2; exit 2 ;;
esac
