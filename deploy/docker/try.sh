#!/usr/bin/env bash
# Runs what the image of the Dockerfile would run, without an engine: a root of its own made by debootstrap and by the instructions of the
# stages "base" and "final", the publish output of this checkout, the user, variables and command of the file, a root file system that
# cannot be written, no capabilities, and a network of its own. Shows that nothing is missing at run time.
#     sudo deploy/docker/try.sh [FOLDER]       FOLDER (artifacts/image) keeps the root for the next time
# Keeps: only instructions that it knows are obeyed, any other one stops it; nothing it mounts or starts outlives it.
# Exit status: 1 something does not run, 2 something is missing here.
set -euo pipefail
here=$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")
checkout=$(readlink -f -- "$here/../..")
file=$here/Dockerfile
work=$(readlink -m -- "${1:-$checkout/artifacts/image}")
image=$work/root app=$work/app runs=$work/runs

die() {
    echo "try.sh: $1" >&2
    exit "${2:-2}"
}

if [[ ${MEM1_TRY_INSIDE-} != 1 ]]; then
    [[ $(id -u) == 0 ]] || die "it makes mounts, so it needs root"
    for program in debootstrap unshare setpriv ip dotnet; do command -v "$program" > /dev/null || die "$program is missing"; done
fi

# Prints the instructions of a stage, one a line, comments gone and continuations joined. $1: the stage.
stage() {
    sed -e '/^#/d' -e ':a' -e '/\\$/N; s/\\\n//; ta' "$file" | awk -v stage="$1" '$1 == "FROM" { on = $4 == stage } on && NF'
}

# ---- the root ------------------------------------------------------------------------------------------------------------

# What takes long of the stage base: the distribution and its packages. Kept while the Dockerfile says the same.
make_root() {
    local suite line made=$work/root.made packages
    case $(sed -n 's/^ARG DEBIAN=debian:\([0-9]*\).*/\1/p' "$file") in
        12) suite=bookworm ;;
        13) suite=trixie ;;
        *) die "the Dockerfile's ARG DEBIAN names a Debian that this script does not know" 1 ;;
    esac
    packages=$(stage base | sed -n 's/^RUN //p')
    if [[ -f $made && $(< "$made") == "$packages" ]]; then return; fi
    rm -rf -- "$image" "$made"
    echo "debootstrap $suite ..."
    debootstrap --variant=minbase "$suite" "$image" > "$work/debootstrap.log" 2>&1 || die "it failed; $work/debootstrap.log says why" 1
    cp --dereference /etc/resolv.conf "$image/etc/resolv.conf"
    while read -r line; do
        echo "RUN ${line:0:100} ..."
        chroot "$image" /bin/bash -o pipefail -c "export DEBIAN_FRONTEND=noninteractive; $line" > "$work/run.log" 2>&1 ||
            die "it failed; $work/run.log says why" 1
    done <<< "$packages"
    printf '%s\n' "$packages" > "$made"
}

# Prints the folder of a .NET with its runtimes; a dotnet on the path may be a wrapper.
find_dotnet() {
    local folder
    for folder in "${DOTNET_ROOT-}" "$(dirname -- "$(readlink -f -- "$(command -v dotnet)")")" /usr/share/dotnet /usr/lib/dotnet; do
        if [[ -d $folder/host/fxr && -d $folder/shared/Microsoft.AspNetCore.App ]]; then
            printf '%s\n' "$folder"
            return
        fi
    done
    die "the runtime of ASP.NET Core is missing beside dotnet; DOTNET_ROOT says where it is"
}

# Obeys the instructions of a stage that make files. $1: the stage.
build() {
    local name rest
    while read -r name rest; do
        case $name in
            COPY) copy "$rest" ;;
            FROM | RUN | ENV | VOLUME | WORKDIR | USER | EXPOSE | STOPSIGNAL | HEALTHCHECK | ENTRYPOINT | CMD) ;;
            *) die "the stage $1 has an instruction that this script does not know: $name" 1 ;;
        esac
    done < <(stage "$1")
}

# COPY of the stages base and final. $1: its arguments.
copy() {
    local dotnet
    case $1 in
        "--from=runtime /usr/share/dotnet /usr/share/dotnet") # what the image of the runtime has there
            dotnet=$(find_dotnet)
            rm -rf -- "$image/usr/share/dotnet"
            mkdir -p -- "$image/usr/share/dotnet/shared"
            cp -- "$dotnet/dotnet" "$image/usr/share/dotnet/"
            cp -r -- "$dotnet/host" "$image/usr/share/dotnet/"
            cp -r -- "$dotnet/shared/Microsoft.NETCore.App" "$dotnet/shared/Microsoft.AspNetCore.App" "$image/usr/share/dotnet/shared/"
            ;;
        "--chmod=0555 "*)
            # shellcheck disable=SC2086
            set -- $1
            install -m 0555 -- "$checkout/$2" "$image/$3"
            ;;
        "--from=build /app /app")
            rm -rf -- "$image/app"
            cp -r -- "$app" "$image/app"
            ;;
        *) die "this script does not know COPY $1" 1 ;;
    esac
}

publish() {
    local line
    line=$(stage build | sed -n 's/^RUN \(dotnet publish .*\)/\1/p')
    [[ -n $line ]] || die "the stage build has no dotnet publish" 1
    echo "RUN $line"
    rm -rf -- "$app"
    (cd -- "$checkout" && bash -c "${line/-o \/app/-o \"$app\"}") > "$work/publish.log" 2>&1 ||
        die "it failed; $work/publish.log says why" 1
}

# ---- what is run in it -----------------------------------------------------------------------------------------------------

# Prints the variables of the image, NAME=VALUE a line.
# shellcheck disable=SC2016
variables() {
    { stage base && stage final; } | sed -n 's/^ENV //p' | xargs -n 1 |
        sed 's|:\$PATH$|:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin|'
}

# Leaves in "line" the command that runs another as a user of the root. $1, $2: user and group; the rest: the other one.
as() {
    line=(chroot "$mounted" setpriv --reuid="$1" --regid="$2" --clear-groups --no-new-privs --bounding-set=-all --inh-caps=-all
        bash -c 'cd /runs && exec "$@"' - "${@:3}")
}

inside() {
    as "$@"
    "${line[@]}"
}

# Leaves in "line" the program as the container would run it; each command of it becomes the next. Arguments: those of the container.
as_container() {
    local user
    local -a environment entry
    user=$(stage final | sed -n 's/^USER //p')
    read -ra entry <<< "$(stage final | sed -n 's/^ENTRYPOINT //p' | tr -d '[]",')"
    mapfile -t environment < <(variables)
    as "${user%:*}" "${user#*:}" env -i "${environment[@]}" MEM1_TOKEN="$token" "${entry[@]}" "$@"
}

container() {
    as_container "$@"
    "${line[@]}"
}

# Whether a process that was started answers. $1: port; $2: what is asked for.
answers() {
    local try said
    for try in {1..300}; do
        if { exec 4<> "/dev/tcp/127.0.0.1/$1"; } 2> /dev/null; then
            printf 'GET %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n' "$2" >&4
            IFS= read -r -t 5 said <&4 || said=
            exec 4>&-
            [[ $said != 'HTTP/1.1 200'* ]] || return 0
        fi
        sleep 0.2
    done
    echo "port $1 does not answer $2 after $try tries: ${said-nobody listens}" >&2
    return 1
}

# Runs a check and says how it went. $1: what it is; the rest: the command.
check() {
    local what=$1 started=$SECONDS
    shift
    if "$@" > "$work/log/${what//[^a-z0-9]/-}.log" 2>&1; then
        echo "ok    $what ($((SECONDS - started)) s)"
    else
        echo "WRONG $what; $work/log/${what//[^a-z0-9]/-}.log:"
        tail -n 5 "$work/log/${what//[^a-z0-9]/-}.log" | sed 's/^/      /'
        failed=1
    fi
}

# What SQLite brings for other systems is left out; so is tracing of the runtime, which is off and lacks lttng in the runtime's image too.
# shellcheck disable=SC2016
libraries() {
    local missing
    missing=$(inside 0 0 sh -c 'find /app /usr/share/dotnet -path "*/runtimes/*" ! -path "*/runtimes/linux-x64*" -prune -o -name "*.so" -print |
        grep -v /libcoreclrtraceptprovider.so | xargs ldd /usr/lib/*/libtorch_cpu.so*' | awk '/:$/ { file = $1 } /not found/ { print file, $0 }') || true
    [[ -z $missing ]] || {
        echo "$missing"
        return 1
    }
}

cannot_write() { ! inside 10001 10001 sh -c 'echo > /app/x || echo > /etc/x || echo > /x' 2> /dev/null; }

has_no_rights() { inside 10001 10001 grep -q '^CapEff:.0000000000000000$' /proc/self/status; }

apart() {
    local learner
    as_container learner --quick --runs /runs --name apart --listen 127.0.0.1:5050 --no-dashboard --health 127.0.0.1:8081 --stay
    "${line[@]}" &
    learner=$!
    if answers 8081 /started && inside 10001 10001 mem1-healthcheck && container rollout --learner 127.0.0.1:5050; then
        kill -TERM "$learner"
        wait "$learner"
    else
        kill -KILL "$learner"
        return 1
    fi
}

serves() { # $1: port, $2: what is asked for; the rest: the command
    local server
    as_container "${@:3}"
    "${line[@]}" &
    server=$!
    if answers "$1" "$2"; then
        kill -TERM "$server"
        wait "$server"
    else
        kill -KILL "$server"
        return 1
    fi
}

inside_namespaces() {
    mount --make-rprivate /
    mounted=$work/mounted
    mkdir -p -- "$mounted" "$work/log"
    mount --bind "$image" "$mounted"
    mount -o remount,bind,ro "$mounted"
    mount -t proc proc "$mounted/proc"
    mount -t tmpfs -o size=512m,mode=1777 tmpfs "$mounted/tmp"
    mount -t tmpfs -o mode=755 tmpfs "$mounted/dev"
    for device in null zero full random urandom; do
        : > "$mounted/dev/$device"
        mount --bind "/dev/$device" "$mounted/dev/$device"
    done
    mkdir -m 1777 "$mounted/dev/shm"
    mount --bind "$runs" "$mounted/runs"
    ip link set lo up
    failed=0
    token=0123456789abcdef0123456789abcdef0123456789abcdef
    check "every library is there" libraries
    check "the root cannot be written" cannot_write
    check "there are no rights" has_no_rights
    check "--version" container --version
    check "doctor" container doctor
    check "train --quick" container train --quick --no-dashboard --runs /runs
    check "learner and rollout apart, with a token" apart
    check "eval of the run" container eval --model /runs/quick --episodes 2 --objectives 1 --agents mem1 --out evaluation
    check "dashboard" serves 5080 /health dashboard --run /runs/quick
    check "serve" serves 8001 /health serve /runs/quick/checkpoints/step-3 --port 8001
    printf '{"id": "0", "contents": "\\"Neckar\\"\\nThe Neckar is a river."}\n' > "$runs/corpus.jsonl"
    check "data index" container data index --corpus corpus.jsonl --out corpus.index
    check "retriever" serves 8000 /ready retriever --index corpus.index
    return "$failed"
}

if [[ ${MEM1_TRY_INSIDE-} == 1 ]]; then
    inside_namespaces
    exit
fi
mkdir -p -- "$work" "$image"
make_root
publish
build base
build final
rm -rf -- "$runs"
install -d -o 10001 -g 10001 "$runs"
echo "root file system $(du -sm "$image" | cut -f 1) MB, of it the program $(du -sm "$image/app" | cut -f 1) MB"
MEM1_TRY_INSIDE=1 exec unshare --mount --pid --fork --kill-child --net --ipc --uts "$here/try.sh" "$work"
