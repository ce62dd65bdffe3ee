#!/bin/bash
# Becomes the server as soon as the worker has written its first weights. $1: their folder, which appears whole; the rest is for vllm serve.
set -eu
folder=$1
shift
trap 'exit 0' TERM INT # the first process of a container has no default for them
until [[ -e $folder/config.json ]]; do
    sleep 1 &
    wait $!
done
exec vllm serve "$folder" "$@"
