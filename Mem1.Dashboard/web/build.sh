#!/usr/bin/env bash
# web/build.sh OUT: makes OUT/page from these sources when they changed, with the Node and npm of the machine.
#
# Invariants:
# - It always ends with status 0: the dashboard's page is the only thing that needs it. OUT/why.txt says why there is no page.
# - OUT/page is whole or absent; the same sources are built once; two builds at once wait for each other.
# - It writes only under OUT and node_modules, and runs no script of a package.
set -uo pipefail
cd -- "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")" || exit 0
out=${1:-../../artifacts/dashboard}
mkdir -p -- "$out" || exit 0
out=$(readlink -f -- "$out")
exec 9> "$out/lock"
flock 9

give_up() {
    rm -rf -- "$out/page"
    rm -f -- "$out/stamp"
    [[ -f $out/why.txt && $(< "$out/why.txt") == "$1" ]] || printf '%s\n' "$1" > "$out/why.txt"
    printf 'dashboard: %s\n' "$1"
    exit 0
}

stamp=$(find . -name node_modules -prune -o -type f -print0 | LC_ALL=C sort -z | xargs -0 cksum)
if [[ -f $out/stamp && -d $out/page && $(< "$out/stamp") == "$stamp" ]]; then exit 0; fi
command -v node > /dev/null || give_up 'Node.js is missing: install version 18 or newer, and npm (Debian: apt-get install nodejs npm).'
major=$(node -p 'process.versions.node.split(".")[0]' 2> /dev/null) || major=0
((major >= 18)) || give_up "Node.js $(node --version) is too old: install version 18 or newer (Debian: apt-get install nodejs npm)."
command -v npm > /dev/null || give_up 'npm is missing: install it (Debian: apt-get install npm).'
# What a registry does not answer within half a minute it does not answer; the log says the rest.
if ! cmp -s package-lock.json node_modules/.mem1-lock; then
    npm ci --ignore-scripts --no-audit --no-fund --fetch-retries=1 --fetch-timeout=30000 > "$out/build.log" 2>&1 9>&- ||
        give_up "npm could not install what package-lock.json names (no network?): $(grep -m 1 -E 'npm (ERR!|error)' "$out/build.log" | cut -c 1-200)"
    cp package-lock.json node_modules/.mem1-lock
fi
rm -rf -- "$out/next"
npm run --silent build -- --outDir "$out/next" --emptyOutDir > "$out/build.log" 2>&1 9>&- ||
    give_up "the page could not be built: $(grep -m 1 -iE 'error' "$out/build.log" | cut -c 1-200)"
rm -rf -- "$out/page"
rm -f -- "$out/why.txt"
mv -- "$out/next" "$out/page" && printf '%s\n' "$stamp" > "$out/stamp"
exit 0
