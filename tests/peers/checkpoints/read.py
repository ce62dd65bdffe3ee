"""Reads a checkpoint folder as loaders of the Hugging Face layout do, with nothing but Python's own library.

Keeps: nothing here comes from mem1; names and shapes follow from config.json as Qwen2ForCausalLM of transformers defines them.
Prints one JSON object: tensors (name to [dtype, shape, sum of values]) and files. Exits 1 with a line for the first thing that is wrong.
"""
import json
import math
import os
import struct
import sys


def fail(text):
    sys.exit("read.py: " + text)


def values(dtype, raw):
    if dtype == "F32":
        return struct.unpack("<%df" % (len(raw) // 4), raw)
    if dtype == "F16":
        return struct.unpack("<%de" % (len(raw) // 2), raw)
    if dtype == "BF16":
        return [struct.unpack("<f", b"\0\0" + raw[i:i + 2])[0] for i in range(0, len(raw), 2)]
    fail("dtype " + dtype)


def read(path):
    data = open(path, "rb").read()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8:8 + length].decode("utf-8"))
    if header.pop("__metadata__", None) != {"format": "pt"}:
        fail(path + ": __metadata__ is not {\"format\": \"pt\"}, which transformers refuses")
    if (8 + length) % 8:
        fail(path + ": data is not aligned to eight bytes")
    end = 0
    tensors = {}
    for name, entry in sorted(header.items(), key=lambda e: e[1]["data_offsets"]):
        begin, stop = entry["data_offsets"]
        if begin != end:
            fail("%s: %s does not begin where the one before it ends" % (path, name))
        end = stop
        tensors[name] = (entry["dtype"], entry["shape"], values(entry["dtype"], data[8 + length + begin:8 + length + stop]))
    if 8 + length + end != len(data):
        fail(path + ": bytes after the last tensor")
    return tensors


def expected(c):
    d, f, v = c["hidden_size"], c["intermediate_size"], c["vocab_size"]
    head = c.get("head_dim", d // c["num_attention_heads"])
    q, k = head * c["num_attention_heads"], head * c["num_key_value_heads"]
    shapes = {"model.embed_tokens.weight": [v, d], "model.norm.weight": [d]}
    if not c["tie_word_embeddings"]:
        shapes["lm_head.weight"] = [v, d]
    for i in range(c["num_hidden_layers"]):
        p = "model.layers.%d." % i
        for name, rows in (("q", q), ("k", k), ("v", k)):
            shapes[p + "self_attn.%s_proj.weight" % name] = [rows, d]
            shapes[p + "self_attn.%s_proj.bias" % name] = [rows]
        shapes[p + "self_attn.o_proj.weight"] = [d, q]
        shapes[p + "mlp.gate_proj.weight"] = shapes[p + "mlp.up_proj.weight"] = [f, d]
        shapes[p + "mlp.down_proj.weight"] = [d, f]
        shapes[p + "input_layernorm.weight"] = shapes[p + "post_attention_layernorm.weight"] = [d]
    return shapes


def main(folder):
    config = json.load(open(os.path.join(folder, "config.json")))
    if config["architectures"] != ["Qwen2ForCausalLM"] or config["model_type"] != "qwen2":
        fail("config.json: not a Qwen2ForCausalLM")
    dtype = {"float32": "F32", "bfloat16": "BF16", "float16": "F16"}[config["torch_dtype"]]
    index = os.path.join(folder, "model.safetensors.index.json")
    tensors = {}
    if os.path.exists(index):
        entries = json.load(open(index))
        for file in sorted(set(entries["weight_map"].values())):
            shard = read(os.path.join(folder, file))
            for name in shard:
                if entries["weight_map"].get(name) != file:
                    fail("%s is in %s, not where the index says" % (name, file))
            tensors.update(shard)
        size = sum(len(t[2]) * (4 if t[0] == "F32" else 2) for t in tensors.values())
        if entries["metadata"]["total_size"] != size or set(entries["weight_map"]) != set(tensors):
            fail("the index does not agree with its shards")
    else:
        tensors = read(os.path.join(folder, "model.safetensors"))
    shapes = expected(config)
    if set(shapes) != set(tensors):
        fail("unexpected or missing tensors: %s" % sorted(set(shapes) ^ set(tensors)))
    for name, (found, shape, numbers) in tensors.items():
        if found != dtype or shape != shapes[name] or len(numbers) != math.prod(shape):
            fail("%s is %s %s, expected %s %s" % (name, found, shape, dtype, shapes[name]))
    print(json.dumps({
        "tensors": {n: [t[0], t[1], sum(t[2])] for n, t in tensors.items()},
        "files": sorted(os.listdir(folder)),
    }))


main(sys.argv[1])
