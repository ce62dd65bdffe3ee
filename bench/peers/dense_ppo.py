#!/usr/bin/python3
"""One PPO step in plain python3-torch: the peer that `mem1 bench learner` is measured against.

The model is a Qwen2 decoder with a value head; a trajectory of K turns is one stitched sequence q, y0, x1, y1, ... under a materialised
[S, S] mask, positions restarting after the prompt in every turn. Weights and trajectory come from a safetensors file that the caller
wrote; one JSON object goes to standard output. Nothing here is shared with the program it is compared with.

Memory is the peak resident set minus the resident set before the model exists (libraries loaded, BLAS warmed up), so parameters,
gradients and optimiser state count.
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
    p.add_argument("--case", required=True, help="safetensors file with weights and case.* tensors")
    p.add_argument("--layers", type=int, required=True)
    p.add_argument("--heads", type=int, required=True)
    p.add_argument("--kv-heads", type=int, required=True)
    p.add_argument("--rope-theta", type=float, required=True)
    p.add_argument("--norm-epsilon", type=float, required=True)
    p.add_argument("--learning-rate", type=float, required=True)
    p.add_argument("--value-learning-rate", type=float, required=True)
    p.add_argument("--weight-decay", type=float, required=True)
    p.add_argument("--beta1", type=float, required=True)
    p.add_argument("--beta2", type=float, required=True)
    p.add_argument("--clip", type=float, required=True)
    p.add_argument("--value-clip", type=float, required=True)
    p.add_argument("--entropy", type=float, required=True)
    p.add_argument("--gradient-clip", type=float, required=True)
    p.add_argument("--repeat", type=int, default=5, help="passes timed at least")
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


def stitch(case):
    """Token ids, positions, turn of each token (-1: prompt), predicting indices and targets."""
    prompt = case["case.prompt"].long().tolist()
    generated = case["case.generated"].long().tolist()
    observation = case["case.observation"].long().tolist()
    tokens, positions, turns = list(prompt), list(range(len(prompt))), [-1] * len(prompt)
    predictions, targets = [], []
    context = []
    for j, y in enumerate(generated):
        positions += range(len(prompt), len(prompt) + len(context) + len(y))
        turns += [j] * (len(context) + len(y))
        tokens += context
        first = len(tokens) - 1 if context else len(prompt) - 1
        predictions += [first] + list(range(len(tokens), len(tokens) + len(y) - 1))
        targets += y
        tokens += y
        context = y + observation[j]
    return [torch.tensor(v) for v in (tokens, positions, turns, predictions, targets)]


class Model:
    def __init__(self, weights, args):
        self.args = args
        self.p = {name: torch.nn.Parameter(value.clone()) for name, value in weights.items() if not name.startswith("case.")}
        self.head_size = self.p["model.layers.0.self_attn.q_proj.weight"].shape[0] // args.heads

    def norm(self, x, weight):
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.args.norm_epsilon) * weight

    def rotate(self, x, cos, sin):
        a, b = x.chunk(2, -1)
        return x * cos + torch.cat([-b, a], -1) * sin

    def hidden(self, tokens, positions, mask):
        p, heads, kv, dh = self.p, self.args.heads, self.args.kv_heads, self.head_size
        length, group = len(tokens), heads // kv
        rates = self.args.rope_theta ** (-torch.arange(0, dh, 2, dtype=torch.float64) / dh)
        angles = (positions[:, None] * rates).repeat(1, 2)
        cos, sin = angles.cos().float(), angles.sin().float()
        x = F.embedding(tokens, p["model.embed_tokens.weight"])
        for i in range(self.args.layers):
            n = f"model.layers.{i}."
            h = self.norm(x, p[n + "input_layernorm.weight"])

            def split(part, count):
                y = F.linear(h, p[f"{n}self_attn.{part}_proj.weight"], p[f"{n}self_attn.{part}_proj.bias"])
                return y.view(length, count, dh).transpose(0, 1)

            # Heads that share a key head are more rows of the same product: no copies of keys and values.
            q = (self.rotate(split("q", heads), cos, sin) * dh**-0.5).reshape(kv, group * length, dh)
            k, v = self.rotate(split("k", kv), cos, sin), split("v", kv)
            scores = (q @ k.transpose(1, 2)).view(kv, group, length, length) + mask
            mixed = (scores.softmax(-1).view(kv, group * length, length) @ v).view(heads, length, dh)
            x = x + F.linear(mixed.transpose(0, 1).reshape(length, heads * dh), p[n + "self_attn.o_proj.weight"])
            h = self.norm(x, p[n + "post_attention_layernorm.weight"])
            gate = F.silu(F.linear(h, p[n + "mlp.gate_proj.weight"]))
            x = x + F.linear(gate * F.linear(h, p[n + "mlp.up_proj.weight"]), p[n + "mlp.down_proj.weight"])
        return self.norm(x, p["model.norm.weight"])

    def values(self, hidden):
        h = F.relu(F.linear(hidden.detach(), self.p["value_head.fc1.weight"], self.p["value_head.fc1.bias"]))
        return F.linear(h, self.p["value_head.fc2.weight"], self.p["value_head.fc2.bias"]).squeeze(-1)


class Step:
    def __init__(self, tensors, args):
        self.args, self.case = args, tensors
        self.model = Model(tensors, args)
        value = [t for name, t in self.model.p.items() if name.startswith("value_head.")]
        matrices = [t for name, t in self.model.p.items() if t.dim() == 2 and not name.startswith("value_head.")]
        vectors = [t for name, t in self.model.p.items() if t.dim() == 1 and not name.startswith("value_head.")]
        self.policy_parameters, self.value_parameters = matrices + vectors, value
        self.optimiser = torch.optim.AdamW(
            [
                {"params": matrices, "lr": args.learning_rate, "weight_decay": args.weight_decay},
                {"params": vectors, "lr": args.learning_rate, "weight_decay": 0.0},
                {"params": value, "lr": args.value_learning_rate, "weight_decay": 0.0},
            ],
            betas=(args.beta1, args.beta2),
        )

    def run(self):
        args, case, model = self.args, self.case, self.model
        tokens, positions, turns, predictions, targets = stitch(case)
        order = torch.arange(len(tokens))
        visible = (order[None, :] <= order[:, None]) & ((turns[None, :] == turns[:, None]) | (turns[None, :] < 0))
        mask = torch.zeros(visible.shape).masked_fill_(~visible, float("-inf"))

        hidden = model.hidden(tokens, positions, mask)[predictions]
        every = F.log_softmax(F.linear(hidden, model.p["model.embed_tokens.weight"]), -1)
        log_probs = every.gather(1, targets[:, None]).squeeze(1)
        ratio = (log_probs - case["case.old_log_probs"]).exp()
        advantages = case["case.advantages"]
        policy = torch.maximum(-advantages * ratio, -advantages * ratio.clamp(1 - args.clip, 1 + args.clip)).sum()
        values, old, returns = model.values(hidden), case["case.old_values"], case["case.returns"]
        near = torch.maximum(torch.minimum(values, old + args.value_clip), old - args.value_clip)
        value = 0.5 * torch.maximum((values - returns).square(), (near - returns).square()).sum()
        entropy = -(every.exp() * every).sum()
        loss = (policy + value - args.entropy * entropy) / len(targets)

        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.policy_parameters, args.gradient_clip)
        torch.nn.utils.clip_grad_norm_(self.value_parameters, args.gradient_clip)
        self.optimiser.step()
        return log_probs.detach().tolist(), float(loss), float(norm)


def status(field):
    """A size from /proc/self/status, in bytes."""
    with open("/proc/self/status", encoding="ascii") as file:
        for line in file:
            if line.startswith(field + ":"):
                return int(line.split()[1]) * 1024
    sys.exit(f"/proc/self/status has no {field}")


def main():
    args = arguments()
    torch.set_num_threads(1)
    tensors = read_safetensors(args.case)
    warm = torch.ones(256, 256, requires_grad=True)
    (warm @ warm).sum().backward()  # the BLAS makes its buffers now
    del warm
    try:
        with open("/proc/self/clear_refs", "w", encoding="ascii") as file:
            file.write("5")  # VmHWM starts again from what is resident now
    except OSError:
        pass  # then the peak of starting up counts too
    before = status("VmRSS")
    step = Step(tensors, args)
    first = step.run()
    losses, seconds, cpu = [first[1]], [], []
    begin = time.perf_counter()
    while len(seconds) < args.repeat or time.perf_counter() - begin < args.seconds:
        wall, used = time.perf_counter(), time.process_time()
        losses.append(step.run()[1])
        seconds.append(time.perf_counter() - wall)
        cpu.append(time.process_time() - used)
    print(json.dumps({
        "seconds": min(seconds), "cpu_seconds": min(cpu), "passes": len(seconds), "peak_bytes": status("VmHWM") - before,
        "log_probs": first[0], "losses": losses[:3], "gradient_norm": first[2],
        "engine": f"python {platform.python_version()}, torch {torch.__version__}",
    }))


main()
