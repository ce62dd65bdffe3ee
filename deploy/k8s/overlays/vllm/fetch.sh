#!/bin/sh
# Fetches a model of the Hugging Face layout into the folder $1, unless it is there. MODEL_URL, MODEL_REVISION: which; MODEL_SHA256: of its
# weights. Keeps: the mark that a revision is there is written last, so what was interrupted is fetched again.
set -eu
folder=$1
mark=$folder/.revision
if [ -e "$mark" ] && [ "$(cat "$mark")" = "$MODEL_REVISION" ]; then exit 0; fi
mkdir -p "$folder"
rm -f "$mark"
for file in config.json generation_config.json tokenizer.json tokenizer_config.json model.safetensors; do
    echo "fetching $file of $MODEL_URL at $MODEL_REVISION"
    curl --fail --location --silent --show-error --retry 8 --output "$folder/$file" "$MODEL_URL/resolve/$MODEL_REVISION/$file"
done
echo "$MODEL_SHA256  $folder/model.safetensors" | sha256sum -c -
printf '%s' "$MODEL_REVISION" > "$mark"
