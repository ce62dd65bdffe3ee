#!/usr/bin/python3
"""Batched sampling in plain python3-torch: the peer that `mem1 bench rollout` is measured against.

The model is a Qwen2 decoder with a key/value cache that is allocated once; queries, keys and values are one product, gate and up another.
Contexts of equal length are read in one pass, then every step draws one token for each sequence from softmax(logits) by inversion of its
cumulative sum, from uniform numbers that the caller gave. Weights, contexts and uniforms come from a safetensors file that the caller wrote;
one JSON object goes to standard output. Nothing here is shared with the program it is compared with.
"""
import argparse
import json
import platform
import sys
import time

import torch
import torch.nn.functional as F


def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--case", required=True, help="safetensors file with weights, case.contexts and case.uniforms")
    p.add_argument("--layers", type=int, required=True)
    p.add_argument("--heads", type=int, required=True)
    p.add_argument("--kv-heads", type=int, required=True)
    p.add_argument("--rope-theta", type=float, required=True)
    p.add_argument("--norm-epsilon", type=float, required=True)
    p.add_argument("--threads", type=int, required=True)
    p.add_argument("--batch", required=True, help="batch sizes, separated by commas")
    p.add_argument("--repeat", type=int, default=3, help="rounds timed at least")
    p.add_argument("--seconds", type=float, default=0.0, help="goes on timing for so long")
    return p.parse_args()


def read_safetensors(path):
    """Name -> float32 tensor. The format: 8 bytes header length, JSON header, data."""
    with open(path, "rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        data = bytearray(file.read())
    tensors = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        if entry["dtype"] != "F32":
            sys.exit(f"{path}: {name} is {entry['dtype']}; only F32 is read here")
        begin, end = entry["data_offsets"]
        tensors[name] = torch.frombuffer(data, dtype=torch.float32, count=(end - begin) // 4, offset=begin).view(entry["shape"])
    return tensors


class Model:
    def __init__(self, weights, args, positions):
        self.heads, self.kv, self.epsilon = args.heads, args.kv_heads, args.norm_epsilon
        self.embed, self.last_norm = weights["model.embed_tokens.weight"], weights["model.norm.weight"]
        self.dh = weights["model.layers.0.self_attn.q_proj.weight"].shape[0] // args.heads
        self.layers = []
        for i in range(args.layers):
            n = f"model.layers.{i}."
            a = n + "self_attn."
            self.layers.append((
                weights[n + "input_layernorm.weight"],
                torch.cat([weights[f"{a}{part}_proj.weight"] for part in "qkv"]),
                torch.cat([weights[f"{a}{part}_proj.bias"] for part in "qkv"]),
                weights[a + "o_proj.weight"],
                weights[n + "post_attention_layernorm.weight"],
                torch.cat([weights[n + "mlp.gate_proj.weight"], weights[n + "mlp.up_proj.weight"]]),
                weights[n + "mlp.down_proj.weight"],
            ))
        rates = args.rope_theta ** (-torch.arange(0, self.dh, 2, dtype=torch.float64) / self.dh)
        angles = (torch.arange(positions)[:, None] * rates).repeat(1, 2)
        self.cos, self.sin = angles.cos().float(), angles.sin().float()

    def cache(self, batch, capacity):
        shape = (batch * self.kv, capacity, self.dh)
        return [(torch.zeros(shape), torch.zeros(shape)) for _ in self.layers]

    def norm(self, x, weight):
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.epsilon) * weight

    def step(self, tokens, cache, start):
        """Logits after the last of tokens [B, L], which go to positions start, start + 1, ... of the cache."""
        batch, length = tokens.shape
        end, heads, kv, dh = start + length, self.heads, self.kv, self.dh
        group = heads // kv
        cos, sin = self.cos[start:end], self.sin[start:end]
        hidden = torch.ones(length, end, dtype=torch.bool).triu(start + 1) if length > 1 else None
        x = F.embedding(tokens, self.embed)
        for (norm1, qkv_w, qkv_b, out, norm2, gate_up, down), (keys, values) in zip(self.layers, cache):
            qkv = F.linear(self.norm(x, norm1), qkv_w, qkv_b).view(batch, length, heads + 2 * kv, dh).transpose(1, 2)
            qk = qkv[:, :heads + kv]
            a, b = qk.chunk(2, -1)
            qk = qk * cos + torch.cat([-b, a], -1) * sin
            # Heads that share a key head are more rows of the same product: no copies of keys and values.
            q = (qk[:, :heads] * dh**-0.5).reshape(batch * kv, group * length, dh)
            keys[:, start:end] = qk[:, heads:].reshape(batch * kv, length, dh)
            values[:, start:end] = qkv[:, heads + kv:].reshape(batch * kv, length, dh)
            scores = torch.bmm(q, keys[:, :end].transpose(1, 2))
            if hidden is not None:
                scores.view(batch * kv, group, length, end).masked_fill_(hidden, float("-inf"))
            mixed = torch.bmm(scores.softmax(-1), values[:, :end]).view(batch, heads, length, dh)
            x = x + F.linear(mixed.transpose(1, 2).reshape(batch, length, heads * dh), out)
            gate, up = F.linear(self.norm(x, norm2), gate_up).chunk(2, -1)
            x = x + F.linear(F.silu(gate) * up, down)
        return F.linear(self.norm(x[:, -1], self.last_norm), self.embed)


def draw(logits, uniforms):
    """Tokens [B] and their log-probs."""
    log_probs = F.log_softmax(logits, -1)
    cumulative = log_probs.exp().cumsum(-1)
    wanted = (uniforms * cumulative[:, -1])[:, None]
    tokens = torch.searchsorted(cumulative, wanted, right=True).clamp_(max=logits.shape[1] - 1)
    return tokens, log_probs.gather(1, tokens).squeeze(1)


def play(model, contexts, uniforms):
    """One round: seconds of the first step, which reads the contexts, and of the others; what was drawn."""
    begin = time.perf_counter()
    cache = model.cache(contexts.shape[0], contexts.shape[1] + uniforms.shape[1])
    tokens, log_probs = draw(model.step(contexts, cache, 0), uniforms[:, 0])
    first = time.perf_counter()
    drawn, probs = [tokens], [log_probs]
    for i in range(1, uniforms.shape[1]):
        tokens, log_probs = draw(model.step(tokens, cache, contexts.shape[1] + i - 1), uniforms[:, i])
        drawn.append(tokens)
        probs.append(log_probs)
    return first - begin, time.perf_counter() - first, torch.cat(drawn, 1), torch.stack(probs, 1)


@torch.inference_mode()
def main():
    args = arguments()
    torch.set_num_threads(args.threads)
    tensors = read_safetensors(args.case)
    contexts, uniforms = tensors["case.contexts"].long(), tensors["case.uniforms"]
    model = Model(tensors, args, contexts.shape[1] + uniforms.shape[1])
    rows = []
    for batch in map(int, args.batch.split(",")):
        case = contexts[:batch], uniforms[:batch]
        begin = time.perf_counter()
        drawn = play(model, *case)
        while time.perf_counter() - begin < args.seconds / 2:
            play(model, *case)
        rounds = []
        begin = time.perf_counter()
        while len(rounds) < args.repeat or time.perf_counter() - begin < args.seconds:
            used = time.process_time()
            rounds.append((*play(model, *case)[:2], time.process_time() - used))
        rows.append({
            "batch": batch, "rounds": len(rounds), "seconds": min(a + b for a, b, _ in rounds),
            "cpu_seconds": min(c for _, _, c in rounds),
            "prefill_seconds": min(a for a, _, _ in rounds), "decode_seconds": min(b for _, b, _ in rounds),
            "tokens": drawn[2][:16].tolist(), "log_probs": drawn[3][:16].tolist(),
        })
    print(json.dumps({"engine": f"python {platform.python_version()}, torch {torch.__version__}", "rows": rows}))


if __name__ == "__main__":
    main()
