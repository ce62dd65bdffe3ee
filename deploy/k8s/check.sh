#!/usr/bin/env bash
# Renders the base and every overlay, or the folders that are named, and checks them against the schemas of Kubernetes' OpenAPI.
#     deploy/k8s/check.sh [FOLDER...]
# Needs kubectl 1.27 or newer, node and npm; the schemas come from npm once, into artifacts/. Exit status: 1 when something is wrong, 2 when
# something is missing. The rules that no schema knows are checked by ./mem1 test deploy.
set -euo pipefail
here=$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")
root=$(readlink -f -- "$here/../..")
peer=$root/artifacts/peers/kubernetes
source=$root/tests/peers/kubernetes
for program in kubectl node npm; do
    command -v "$program" > /dev/null || {
        echo "check.sh: $program is missing" >&2
        exit 2
    }
done

mkdir -p -- "$peer"
cp -- "$source"/package.json "$source"/package-lock.json "$source"/validate.mjs "$peer"/
if ! cmp -s -- "$peer/package-lock.json" "$peer/installed.json"; then
    (cd -- "$peer" && npm ci --ignore-scripts --no-audit --no-fund > npm.log 2>&1) || {
        echo "check.sh: npm could not install kubernetes-models and yaml: $(grep -m 1 ERR "$peer/npm.log" || tail -n 1 "$peer/npm.log")" >&2
        exit 2
    }
    cp -- "$peer/package-lock.json" "$peer/installed.json"
fi

if (($# == 0)); then set -- "$here/base" "$here"/overlays/*/; fi
status=0
for folder; do
    echo "$(basename -- "$folder"):"
    rendered=$(kubectl kustomize "$folder") || {
        status=1
        continue
    }
    node "$peer/validate.mjs" <<< "$rendered" || status=1
done
exit "$status"
