#!/usr/bin/env bash
set -euo pipefail

usage() {
    cat <<'TEXT'
Trains in GKE: makes a JobSet of jobset.yaml, follows its log, and ends as the run ends.

  scripts/launch/jobset.sh --name=NAME --image=IMAGE --data=SOURCE --workdir=gs://BUCKET/FOLDER \
    --config=configs/X.py [OPTION ...]

  --name=NAME                the JobSet, in the namespace of the context of kubectl
  --image=IMAGE              made by scripts/launch/Dockerfile
  --data=SOURCE              gs://BUCKET/NAME, synthetic, synthetic:N, or a path in the image
  --workdir=gs://...         the run's folder
  --topology=AxB             the slice, default 4x4
  --chips=N                  on each host of it, default 4
  --accelerator=TYPE         default tpu-v5-lite-podslice
  --service-account=NAME     of Kubernetes, which may use the bucket by Workload Identity; default default
  --spot                     nodes that may be taken away
  --stop                     delete the JobSet: a run that is under way saves and ends
  --dry-run                  print every command, run none
  --config=..., --config.KEY=VALUE, --profile=STEPS   are those of train.py

The training does not hang on this command. Ctrl-C or a lost connection ends the following of its log and nothing else;
the same command follows it again, or creates the JobSet anew where it failed. It ends with 0 when the run is done, with
the status of train.py when the JobSet has failed, and with 75 where the cluster cannot be reached or somebody has
deleted the JobSet: then the same command resumes. Pods whose node is taken away are started again by JobSet.
TEXT
}

fail() {
    echo "error: $1" >&2
    exit 2
}

name='' image='' data='' workdir='' config='' spot='' stop='' dry_run=''
topology=4x4
chips=4
accelerator=tpu-v5-lite-podslice
service_account=default
arguments=()
for argument in "$@"; do
    value=${argument#*=}
    case $argument in *[[:cntrl:]]*) fail "${argument%%[[:cntrl:]]*}: has a control character in it" ;; esac
    case $argument in
        --name=*) name=$value ;;
        --image=*) image=$value ;;
        --topology=*) topology=$value ;;
        --chips=*) chips=$value ;;
        --accelerator=*) accelerator=$value ;;
        --service-account=*) service_account=$value ;;
        --spot) spot=yes ;;
        --stop) stop=yes ;;
        --dry-run) dry_run=yes ;;
        --data=*) data=$value arguments+=("$argument") ;;
        --workdir=*) workdir=$value arguments+=("$argument") ;;
        --config=*) config=$value arguments+=("$argument") ;;
        --config.*=* | --profile=*) arguments+=("$argument") ;;
        --help | -h) usage; exit ;;
        *) fail "$argument: no option of jobset.sh; values are given as --OPTION=VALUE, and --help lists the options" ;;
    esac
done
[ -n "$name" ] || fail "--name=VALUE is missing; --help lists the options"
# https://kubernetes.io/docs/concepts/overview/working-with-objects/names#dns-label-names, and what JobSet adds to it.
[[ $name =~ ^[a-z]([a-z0-9-]{0,48}[a-z0-9])?$ ]] ||
    fail "--name=$name: expected at most 50 lower-case letters, digits and dashes, with a letter first"
if [ -z "$stop" ]; then
    for needed in image data workdir; do
        [ -n "${!needed}" ] || fail "--$needed=VALUE is missing; --help lists the options"
    done
    [ -n "$config" ] || fail "--config=VALUE is missing; --help lists the options"
    case $workdir in
        gs://*) ;;
        *) fail "--workdir=$workdir: the pods share no disk; give --workdir=gs://BUCKET/FOLDER" ;;
    esac
    case $data in
        gs://*) ;;
        [!/]*:/*) fail "--data=$data: the pods do not see it; give --data=gs://BUCKET/NAME" ;;
    esac
    [[ $chips =~ ^[1-9][0-9]*$ ]] || fail "--chips=$chips: expected a number"
    [[ $topology =~ ^[1-9][0-9]*(x[1-9][0-9]*){1,2}$ ]] || fail "--topology=$topology: expected a slice such as 4x4"
    hosts=$((${topology//x/ * } / chips))
    [ $((hosts * chips)) = $((${topology//x/ * })) ] ||
        fail "--topology=$topology: is no whole number of hosts of $chips chips; give --chips=N"
fi
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
[ -n "$dry_run" ] || command -v kubectl >/dev/null || fail "kubectl is not installed, or not on the PATH"

# A string of JSON is one of YAML too.
quoted() {
    local text=${1//\\/\\\\}
    printf '"%s"' "${text//\"/\\\"}"
}
digest=$(printf '%s\n' "${arguments[@]}" | sha256sum)
digest=${digest:0:16}

# jobset.yaml with this run's values, without the comments of its head.
manifest() {
    local line indent in_arguments='' argument
    while IFS= read -r line; do
        indent=${line%%[! ]*}
        case $line in
            '#'*) continue ;;
            *' - --'*) [ -z "$in_arguments" ] || continue ;;
            *) in_arguments='' ;;
        esac
        case $line in
            '  name: fer-jax') line="  name: $name" ;;
            '  annotations:') line+=$'\n'"    fer-jax/arguments: \"$digest\"" ;;
            *' image: '*) line="${indent}image: $(quoted "$image")" ;;
            *' serviceAccountName: '*) line="${indent}serviceAccountName: $(quoted "$service_account")" ;;
            *' cloud.google.com/gke-tpu-accelerator: '*)
                line="${indent}cloud.google.com/gke-tpu-accelerator: $(quoted "$accelerator")"
                [ -z "$spot" ] || line+=$'\n'"${indent}cloud.google.com/gke-spot: \"true\""
                ;;
            *' cloud.google.com/gke-tpu-topology: '*) line="${indent}cloud.google.com/gke-tpu-topology: \"$topology\"" ;;
            *' completions: '*) line="${indent}completions: $hosts" ;;
            *' parallelism: '*) line="${indent}parallelism: $hosts" ;;
            *' google.com/tpu: '*) line="${indent}google.com/tpu: $chips" ;;
            *' args:')
                in_arguments=yes
                for argument in "${arguments[@]}"; do line+=$'\n'"$indent  - $(quoted "$argument")"; done
                ;;
        esac
        printf '%s\n' "$line"
    done <scripts/launch/jobset.yaml
}

pods=--selector=jobset.sigs.k8s.io/jobset-name=$name
first=$pods,batch.kubernetes.io/job-completion-index=0
# Its conditions that hold, such as Completed or Failed, and whose arguments it has.
look=(get jobset "$name" --output='jsonpath={.metadata.annotations.fer-jax/arguments} {.status.conditions[?(@.status=="True")].type}')

if [ -n "$dry_run" ]; then
    show() { printf '%q ' kubectl "$@" && echo; }
    if [ -n "$stop" ]; then
        show delete jobset "$name"
        exit
    fi
    show "${look[@]}"
    show create --filename=-
    manifest | sed 's/^/  /'
    show logs --follow --tail=-1 "$first"
    exit
fi
if [ -n "$stop" ]; then
    kubectl delete jobset "$name"
    exit
fi

message=$(mktemp)
trap 'rm -f "$message"' EXIT
# Prints what `look` finds, `absent` where there is none; 75 where the cluster gives no answer ten times.
found() {
    local try
    for try in {1..10}; do
        if kubectl "${look[@]}" 2>"$message"; then return; fi
        if grep -qi 'not.found' "$message"; then
            echo absent
            return
        fi
        [ "$try" = 10 ] || sleep 30
    done
    echo "$name: the cluster cannot be reached ($(tail -n 1 "$message")); the same command follows the run again" >&2
    return 75
}

state=$(found)
case $state in
    absent) ;;
    "$digest "*Failed*)
        echo "$name has failed before: creating it again"
        kubectl delete jobset "$name"
        state=absent
        ;;
    "$digest "*) echo "$name is there: following it" ;;
    *) fail "$name: trains with other arguments; wait for its end, delete it by --stop, or give another --name" ;;
esac
if [ "$state" = absent ]; then
    manifest | kubectl create --filename=- || fail "$name: could not be created; what kubectl says is above"
fi

since=() phases=''
while :; do
    state=$(found)
    case $state in
        *Completed*)
            echo "the run is in $workdir"
            exit 0
            ;;
        *Failed*)
            codes=$(kubectl get pods "$pods" --output='jsonpath={.items[*].status.containerStatuses[*].state.terminated.exitCode}' || true)
            status=1
            for code in $codes; do
                # A mistake says more than what it did to the other pods.
                [ "$code" = 0 ] || [ "$status" = 2 ] || status=$code
            done
            echo "$name has failed ($status); the same command tries again" >&2
            exit "$status"
            ;;
        absent)
            echo "$name was deleted; the same command resumes" >&2
            exit 75
            ;;
    esac
    now=$(date -u +%Y-%m-%dT%H:%M:%SZ)
    if kubectl logs --follow --tail=-1 ${since[@]+"${since[@]}"} "$first" 2>"$message"; then
        since=(--since-time="$now")
    fi
    earlier=$phases
    phases=$(kubectl get pods "$pods" --output='jsonpath={.items[*].status.phase}' 2>/dev/null || true)
    [ "$phases" = "$earlier" ] || echo "pods: ${phases:-none yet}"
    sleep 10
done
