#!/bin/sh
# Builds artifacts/native/libmem1_torch.so when it is older than its sources or was built for another libtorch.
# Usage: build.sh [OUTPUT_DIR]      Environment: LIBTORCH=/path/to/libtorch (default: the system's libtorch-dev)
# Exit status: 0 built or up to date; 2 something is missing (one sentence says what); 1 the compiler failed.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
out=${1:-"$here/../../../artifacts/native"}
mkdir -p "$out"
out=$(cd "$out" && pwd)
so="$out/libmem1_torch.so"
stamp="$out/libmem1_torch.stamp"

# Two projects built at once must not build this twice into the same folder.
exec 9>"$out/.lock"
if command -v flock >/dev/null 2>&1; then flock 9; fi

signature="LIBTORCH=${LIBTORCH:-}"
if [ -f "$so" ] && [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$signature" ] &&
    [ -z "$(find "$here" -type f -newer "$so" | head -n 1)" ]; then
    exit 0
fi

missing=
for tool in cmake g++ nm; do
    if ! command -v "$tool" >/dev/null 2>&1; then
        case $tool in nm) package=g++ ;; *) package=$tool ;; esac
        case " $missing " in *" $package "*) ;; *) missing="$missing $package" ;; esac
    fi
done
if [ -n "${LIBTORCH:-}" ]; then
    if [ ! -f "$LIBTORCH/include/ATen/ATen.h" ]; then
        echo "LIBTORCH=$LIBTORCH does not hold include/ATen/ATen.h: point it at an unpacked libtorch, or unset it to use libtorch-dev." >&2
        exit 2
    fi
elif [ ! -f /usr/include/ATen/ATen.h ]; then
    missing="libtorch-dev$missing"
fi
if [ -n "$missing" ]; then
    echo "Missing to build the libtorch shim:" $missing "- run: apt-get install -y libtorch-dev cmake g++" >&2
    exit 2
fi

build="$out/build"
if [ "$(cat "$stamp" 2>/dev/null || true)" != "$signature" ]; then rm -rf "$build"; fi
log="$out/libmem1_torch.log"
if ! { cmake -S "$here" -B "$build" -DLIBTORCH="${LIBTORCH:-}" && cmake --build "$build" -j "$(nproc)"; } >"$log" 2>&1; then
    echo "The libtorch shim did not compile; the compiler's output is in $log:" >&2
    grep -E "error|Error" "$log" | head -n 20 >&2 || tail -n 20 "$log" >&2
    exit 1
fi
cp "$build/libmem1_torch.so" "$so.new"
mv "$so.new" "$so" # replaced in one step: a running process keeps the file it has open
printf '%s' "$signature" >"$stamp"
