#!/usr/bin/env bash
set -euo pipefail

usage() {
    cat <<'TEXT'
Trains on a Cloud TPU VM: creates or reuses it, copies the last commit and the data, installs, runs train.py on all
workers, and fetches the run's folder.

  scripts/launch/tpu_vm.sh --name=NAME --zone=ZONE --data=SOURCE --workdir=DIR --config=configs/X.py [OPTION ...]

  --name=NAME, --zone=ZONE   the TPU VM; the project is that of `gcloud config`
  --data=SOURCE              a file or folder here, which is copied to every worker; or gs://BUCKET/NAME, synthetic,
                             synthetic:N
  --workdir=DIR              gs://BUCKET/FOLDER: the run's folder, where it stays; or a relative path: the run's folder
                             there, and where it is fetched to here
  --accelerator=TYPE         default v5litepod-8
  --runtime=VERSION          default v2-alpha-tpuv5-lite
  --spot                     a VM that may be taken away, by a queued resource of the same name where the service has
                             them; its disk goes with it, so keep the run in a bucket: then this command waits for
                             another VM and goes on by itself
  --nfs=SERVER:/EXPORT       what all workers mount to share DIR; needed for more than one worker without a bucket
  --weights=SOURCE           convert these weights on the workers first (a name of convert_weights.py --list);
                             may be repeated
  --delete                   delete the VM when the run is done and its folder is here
  --stop                     ask the run that is under way to save and end, and do nothing else
  --dry-run                  print every command, run none
  --config=..., --config.KEY=VALUE, --profile=STEPS   are those of train.py

The training does not hang on this command. Ctrl-C ends the following of its log and nothing else; the same command
follows it again. A connection that is lost is taken up again, five times in a row at most.

It ends with the status of train.py: 0 done, 2 a mistake, 75 stopped by --stop and saved. It also ends with 75 where the
VM cannot be reached, or is gone without --spot and a shared --workdir; after 75 the same command resumes. 1 is a fault
of gcloud or of a command on a worker, whose message comes before.
TEXT
}

fail() {
    echo "error: $1" >&2
    exit 2
}

# Refuses a place elsewhere, in the option $1, but for a bucket, which train.py reads and writes itself.
refuse_url() {
    case $1 in
        --config=*) ;;
        *=gs://*) return ;;
    esac
    case ${1#*=} in
        [!/]*:/*) fail "$1: is not on a file system of this machine; copy or mount it, and give its path" ;;
    esac
}

name='' zone='' data='' workdir='' config='' nfs='' in_bucket='' spot='' delete='' stop='' dry_run=''
given=("$@")
accelerator=v5litepod-8
runtime=v2-alpha-tpuv5-lite
weights=()
passed_on=()
for argument in "$@"; do
    value=${argument#*=}
    case $argument in
        --data=* | --workdir=* | --config=* | --config.init*=* | --config.backbone_checkpoints.*=*) refuse_url "$argument" ;;
    esac
    case $argument in
        --name=*) name=$value ;;
        --zone=*) zone=$value ;;
        --data=*) data=$value ;;
        --workdir=*) workdir=${value%/} ;;
        --accelerator=*) accelerator=$value ;;
        --runtime=*) runtime=$value ;;
        --nfs=*) nfs=$value ;;
        --weights=*) weights+=("$value") ;;
        --spot) spot=yes ;;
        --delete) delete=yes ;;
        --stop) stop=yes ;;
        --dry-run) dry_run=yes ;;
        --config=*) config=$value passed_on+=("$argument") ;;
        --config.*=* | --profile=*) passed_on+=("$argument") ;;
        --help | -h) usage; exit ;;
        *) fail "$argument: no option of tpu_vm.sh; values are given as --OPTION=VALUE, and --help lists the options" ;;
    esac
done
for needed in name zone; do
    [ -n "${!needed}" ] || fail "--$needed=VALUE is missing; --help lists the options"
done
if [ -z "$stop" ]; then
    for needed in data workdir config; do
        [ -n "${!needed}" ] || fail "--$needed=VALUE is missing; --help lists the options"
    done
fi

cd "$(dirname "${BASH_SOURCE[0]}")/../.."
# Paths are those of the caller's folder, which `cd` has left.
here=$OLDPWD
absolute() { case $1 in /*) echo "$1" ;; \~/*) echo "$HOME/${1#*/}" ;; *) echo "$here/$1" ;; esac; }

if [ -z "$stop" ]; then
    case /$workdir/ in
        /gs://*) in_bucket=yes ;;
        //* | */../* | */./* | /~*) fail "--workdir=$workdir: expected a relative path without ., .. and ~, such as runs/x" ;;
    esac
fi
if [ -z "$stop$in_bucket" ]; then
    results=$(absolute "$workdir")
    [ ! -e "$results" ] || [ -d "$results" ] ||
        fail "$results: exists and is not a folder; give another --workdir, or move it away"
    # Other files than those of a run, such as a log, stay where they are.
    if [ ! -f "$results/run.json" ] && [ -e "$results/checkpoints" ]; then
        fail "$results: holds checkpoints, but no run.json; give another --workdir, or move it away"
    fi
fi
if [ -z "$stop" ]; then
    git cat-file -e "HEAD:$config" 2>/dev/null ||
        fail "--config=$config: not in the last commit, which is copied; commit it, or give its path from the root"
    case $data in
        synthetic | synthetic:* | gs://*) remote_data=$data ;;
        *)
            data=$(absolute "${data%/}")
            [ -e "$data" ] || fail "--data=$data: no such file or folder here"
            remote_data=../data/$(basename "$data")
            ;;
    esac
fi
script=$PWD/scripts/launch/tpu_vm.sh
[ -n "$dry_run" ] || command -v gcloud >/dev/null || fail "gcloud is not installed, or not on the PATH"

temporary=$(mktemp -d)
trap 'rm -rf "$temporary"' EXIT

run() {
    if [ -n "$dry_run" ]; then
        printf '%q ' "$@"
        echo
    else
        "$@"
    fi
}
tpu_vm() {
    local verb=$1
    shift
    run gcloud compute tpus tpu-vm "$verb" "$@" --zone="$zone" --quiet
}
# on WORKER COMMAND ARGUMENT ...: the arguments arrive as they are, whatever shell characters they hold.
on() {
    local script=fer_jax/repository/scripts/launch/on_worker.sh
    tpu_vm ssh "$name" --worker="$1" --command="bash $script$(printf ' %q' "${@:2}")"
}
send() { # FILE and what every worker does with it, in ~/fer_jax
    tpu_vm scp "$1" "$name:fer_jax/${1##*/}" --worker=all &&
        tpu_vm ssh "$name" --worker=all --command="cd fer_jax && $2 && rm ${1##*/}"
}
# What on_worker.sh says of this run on the first worker; nothing where that cannot be reached.
run_state() { on 0 state "${arguments[@]}" 2>"$temporary/message" | tail -n 1; }

if [ -n "$stop" ]; then
    on 0 stop
    exit
fi
remote_workdir=../shared/$workdir
[ -z "$in_bucket" ] || remote_workdir=$workdir
arguments=(--data="$remote_data" --workdir="$remote_workdir" "${passed_on[@]}")
[ -n "$dry_run" ] || [ -z "$(git status --porcelain --untracked-files=no)" ] ||
    echo "note: changes that are not committed are not copied" >&2
[ -z "$spot" ] || [ -n "$nfs$in_bucket" ] ||
    echo "note: --spot without a bucket or --nfs: when the VM is taken away, the run begins again" >&2

queued() {
    local verb=$1
    shift
    run gcloud compute tpus queued-resources "$verb" "$name" "$@" --zone="$zone" --quiet
}
# The same command from its beginning, after so many seconds and for this reason.
again() {
    echo "$name: $2; going on in $1 s"
    rm -rf "$temporary"
    sleep "$1"
    cd "$here"
    exec bash "$script" "${given[@]}"
}
# Sets `vm` to the state of the VM, or `absent`.
look_for_vm() {
    local try
    for try in {1..5}; do
        if vm=$(tpu_vm describe "$name" --format='value(state)' 2>"$temporary/message"); then return; fi
        vm=absent
        ! grep -qi 'not.found' "$temporary/message" || return 0
        [ "$try" = 5 ] || sleep 30
    done
    echo "error: gcloud cannot look for $name: $(tail -n 1 "$temporary/message")" >&2
    exit 75
}
# Sets `request` to the state of the queued resource, or `absent`; so too where the service has none.
look_for_request() {
    request=$(queued describe --format='value(state.state)' 2>"$temporary/message") || request=absent
}
delete_vm() {
    look_for_request
    if [ "$request" = absent ]; then
        tpu_vm delete "$name"
    else
        queued delete --force
    fi
}
# Ends this command because the VM is lost, or begins it again where the run can go on by itself; returns where it is
# there.
unless_lost() {
    look_for_vm
    [ "$vm" != READY ] || return 0
    if [ -n "$spot" ] && [ -n "$nfs$in_bucket" ]; then
        unset FER_JAX_LOST_CONNECTIONS
        again 60 "was taken away ($vm)"
    fi
    echo "$name is gone ($vm); the same command resumes" >&2
    exit 75
}
# Begins again because of a connection, five times in a row at most.
reconnect() {
    export FER_JAX_LOST_CONNECTIONS=$((${FER_JAX_LOST_CONNECTIONS:-0} + 1))
    if [ "$FER_JAX_LOST_CONNECTIONS" -gt 5 ]; then
        echo "$1; the same command follows the run again" >&2
        exit 75
    fi
    again 30 "$1"
}
# A step on the workers that has failed: because they are gone, or of itself.
failed_step() {
    unless_lost
    echo "error: $name: $1 failed; what gcloud or the worker says is above" >&2
    exit 1
}

# ---- Create or reuse.
create_vm() {
    if [ -z "$spot" ]; then
        tpu_vm create "$name" --accelerator-type="$accelerator" --version="$runtime" || exit 1
        return
    fi
    if ! queued create --node-id="$name" --accelerator-type="$accelerator" --runtime-version="$runtime" --spot \
        2>"$temporary/message"; then
        cat "$temporary/message" >&2
        grep -qiE 'invalid choice|not.supported|unimplemented' "$temporary/message" || exit 1
        echo "no queued resources for $accelerator in $zone: creating the VM itself"
        tpu_vm create "$name" --accelerator-type="$accelerator" --version="$runtime" --spot || exit 1
    elif [ -n "$dry_run" ]; then
        queued describe --format='value(state.state)'
    else
        wait_in_queue
    fi
}
wait_in_queue() {
    local earlier=''
    while :; do
        look_for_request
        [ "$request" = "$earlier" ] || echo "queued resource $name: $request"
        earlier=$request
        case $request in
            ACTIVE) return ;;
            FAILED)
                fail "$name: the queue has refused it ($(queued describe \
                    --format='value(state.failedData.error.message)' || true)); the same command asks again"
                ;;
            absent | SUSPENDING | SUSPENDED | DELETING) again 60 "taken away before it began" ;;
        esac
        sleep 30
    done
}
if [ -n "$dry_run" ]; then
    tpu_vm describe "$name" --format='value(state)'
    vm=absent
else
    look_for_vm
    for _ in {1..60}; do
        case $vm in CREATING | STARTING | RESTARTING | REPAIRING) ;; *) break ;; esac
        echo "$name is $vm"
        sleep 30
        look_for_vm
    done
fi
request=absent
[ -z "$spot" ] || [ -n "$dry_run" ] || [ "$vm" = READY ] || look_for_request
case $vm in
    READY) echo "reusing $name" ;;
    absent) ;;
    PREEMPTED | TERMINATED)
        echo "$name was taken away ($vm): creating it again"
        delete_vm
        vm=absent request=absent
        ;;
    CREATING | STARTING | RESTARTING | REPAIRING)
        echo "$name is still $vm after half an hour; the same command waits on, or delete it" >&2
        exit 75
        ;;
    *) fail "$name is $vm; wait until it is READY, or delete it" ;;
esac
if [ "$vm" = absent ]; then
    case $request in
        absent) create_vm ;;
        # Of an earlier command: it has ended, or its VM is on its way.
        FAILED | SUSPENDED)
            queued delete --force
            create_vm
            ;;
        SUSPENDING | DELETING) again 60 "its queued resource is $request" ;;
        *) wait_in_queue ;;
    esac
fi
if [ -z "$dry_run$nfs$in_bucket" ]; then
    addresses=$(tpu_vm describe "$name" --format='value(networkEndpoints[].ipAddress)')
    case $addresses in
        *[\;,]*) fail "$name has several workers, which must share --workdir: give --workdir=gs://BUCKET/FOLDER or --nfs=SERVER:/EXPORT (the VM stays)" ;;
    esac
fi

# ---- Copy, install and start, unless a run is under way.
# A worker takes a while until it answers, and some never do.
for try in {1..10}; do
    ! tpu_vm ssh "$name" --worker=all --command='mkdir -p fer_jax/repository fer_jax/data fer_jax/shared' || break
    unless_lost
    if [ "$try" = 10 ]; then
        echo "$name: a worker cannot be reached by ssh, although the VM is READY; the same command tries again, or delete it" >&2
        exit 75
    fi
    sleep 30
done
state=none
[ -n "$dry_run" ] || [ "$vm" != READY ] || state=$(run_state || true)
if [ "$state" = other ]; then
    fail "$name: trains with other arguments; wait for its end, end it by --stop, or give another --name"
elif [ "$state" = running ]; then
    echo "the run is under way on $name: following it; nothing is copied"
else
    run git archive --format=tar.gz --output="$temporary/repository.tar.gz" HEAD
    # What an earlier commit left goes, but for the environment.
    send "$temporary/repository.tar.gz" "find repository -mindepth 1 -maxdepth 1 ! -name .venv -exec rm -rf {} + && \
tar -xzf repository.tar.gz -C repository" || failed_step "copying the repository"
    if [ "$remote_data" != "$data" ]; then
        run tar -C "$(dirname "$data")" -czf "$temporary/data.tar.gz" -- "$(basename "$data")"
        send "$temporary/data.tar.gz" 'tar -xzf data.tar.gz -C data' || failed_step "copying the data"
    fi
    [ -z "$nfs" ] || on all mount "$nfs" || failed_step "mounting $nfs"
    on all install ${weights[@]+"${weights[@]}"} || failed_step "installing"
    on all start "${arguments[@]}" || failed_step "starting"
fi

# ---- Follow, and learn how it ended: the status of gcloud says more about the connection than about the run.
SECONDS=0
on all follow || true
[ "$SECONDS" -lt 600 ] || unset FER_JAX_LOST_CONNECTIONS
if [ -n "$dry_run" ]; then
    run_state
    status=0
else
    status=$(run_state || true)
fi
case $status in
    running) reconnect "the connection is lost, the training continues" ;;
    '' | none)
        unless_lost
        reconnect "cannot be reached ($(tail -n 1 "$temporary/message"))"
        ;;
    stopped) status=75 ;;
    75)
        # Nobody has asked for it: the machine is going.
        if [ -n "$spot" ] && [ -n "$nfs$in_bucket" ]; then again 60 "is being taken away, the run is saved"; fi
        ;;
esac

# ---- Fetch: whole or not at all.
if [ -n "$in_bucket" ]; then
    echo "the run is in $workdir"
elif [ "$status" = 0 ] || [ "$status" = 75 ]; then
    on 0 pack "$workdir"
    tpu_vm scp "$name:fer_jax/results.tar.gz" "$temporary/results.tar.gz" --worker=0
    if [ -n "$dry_run" ]; then
        run tar -xzf "$temporary/results.tar.gz" -C "$here"
    else
        mkdir -p "$(dirname "$results")"
        # Beside its place, so that it can be moved into it.
        beside=$(mktemp -d "$results.fetched.XXXXXX")
        tar -xzf "$temporary/results.tar.gz" -C "$beside"
        if [ -e "$results" ]; then
            [ ! -e "$results/run.json" ] || cmp -s "$results/run.json" "$beside/$workdir/run.json" ||
                fail "$results: holds another run; the one of $name is in $beside/$workdir (the VM stays)"
            mv "$results" "$beside/earlier"
            # What is not of the run stays.
            find "$beside/earlier" -mindepth 1 -maxdepth 1 -exec mv -n {} "$beside/$workdir/" \;
        fi
        mv "$beside/$workdir" "$results"
        rm -rf "$beside"
        echo "fetched to $results"
    fi
fi
if [ "$status" = 0 ] && [ -n "$delete" ]; then
    if [ -n "$dry_run" ] && [ -n "$spot" ]; then
        queued delete --force
    elif [ -n "$dry_run" ]; then
        tpu_vm delete "$name"
    else
        delete_vm
    fi
fi
[ "$status" != 75 ] || echo "stopped and saved; the same command resumes" >&2
exit "$status"
