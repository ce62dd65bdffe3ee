// The same computation in Debian's python3-torch must give the same numbers. Inputs are formulas, so that both sides can make them.
using System.Diagnostics;
using System.Globalization;
using TorchSharp;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace Compat.TorchSharp.Tests;

public sealed class PythonPeerTests
{
    // A python3 of one's own ahead on the PATH does not see the packages Debian installs.
    private const string DebianPython = "/usr/bin/python3";

    private const string Script = """
        import torch, torch.nn.functional as F
        def wave(*shape):
            n = 1
            for s in shape: n *= s
            return (torch.arange(n, dtype=torch.float64) * 0.37).sin().view(*shape).float()
        x = wave(3, 5, 8).requires_grad_()
        w = wave(8, 8).requires_grad_()
        h = x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6)
        q = F.linear(h, w); k = F.linear(h, w.t())
        scores = (q @ k.transpose(1, 2)) / 8 ** 0.5
        scores = scores.masked_fill(torch.ones(5, 5).triu(1).bool(), float('-inf'))
        y = scores.softmax(-1) @ F.silu(h)
        y = F.conv1d(F.pad(y.transpose(1, 2), (2, 0)), wave(8, 1, 3), groups=8).transpose(1, 2)
        lp = y.log_softmax(-1).gather(2, (torch.arange(15).view(3, 5, 1) * 3) % 8).squeeze(2)
        p = torch.nn.Parameter(w.detach().clone())
        loss = -(lp.exp().clamp(0.05, 0.3) * lp).mean() + y.logsumexp(-1).mean() * 0.1
        loss.backward()
        opt = torch.optim.AdamW([p], lr=0.01, weight_decay=0.1)
        for i in range(3):
            p.grad = w.grad * (i + 1); opt.step()
        out = [loss.reshape(1), lp, x.grad, w.grad, p.detach(), y.std(-1), y.topk(3, -1)[0], y.cumsum(1)]
        print(' '.join(repr(float(v)) for t in out for v in t.detach().double().flatten()))
        """;

    [Fact]
    public async Task A_decoder_like_step_agrees_with_python()
    {
        double[] peer = await RunPeer();
        using DisposeScope scope = NewDisposeScope();
        Tensor x = Wave(3, 5, 8).requires_grad_();
        Tensor w = Wave(8, 8).requires_grad_();
        Tensor h = x * rsqrt(x.pow(2).mean([-1], keepdim: true) + 1e-6);
        Tensor q = nn.functional.linear(h, w), k = nn.functional.linear(h, w.t());
        Tensor scores = q.matmul(k.transpose(1, 2)) / Math.Sqrt(8);
        scores = scores.masked_fill(ones(5, 5).triu(1).@bool(), float.NegativeInfinity);
        Tensor y = scores.softmax(-1).matmul(nn.functional.silu(h));
        y = nn.functional.conv1d(nn.functional.pad(y.transpose(1, 2), [2, 0]), Wave(8, 1, 3), groups: 8).transpose(1, 2);
        Tensor lp = y.log_softmax(-1).gather(2, arange(15).view(3, 5, 1) * 3 % 8).squeeze(2);
        var p = new Parameter(w.detach().clone());
        Tensor loss = -(lp.exp().clamp(0.05, 0.3) * lp).mean() + (y.logsumexp(-1).mean() * 0.1);
        loss.backward();
        using AdamW optimizer = optim.AdamW([p], lr: 0.01, weight_decay: 0.1);
        for (int step = 0; step < 3; step++)
        {
            p.grad = w.grad! * (step + 1);
            optimizer.step();
        }
        Tensor[] outputs = [loss.reshape(1), lp, x.grad!, w.grad!, p.detach(), y.std(-1), y.topk(3).values, y.cumsum(1)];
        double[] ours = [.. outputs.SelectMany(t => t.detach().@double().contiguous().data<double>().ToArray())];

        Assert.Equal(peer.Length, ours.Length);
        for (int i = 0; i < ours.Length; i++)
        {
            Assert.True(Math.Abs(peer[i] - ours[i]) <= 1e-6 + (1e-5 * Math.Abs(peer[i])), $"value {i}: python {peer[i]}, here {ours[i]}");
        }
    }

    private static Tensor Wave(params long[] shape) =>
        (arange(shape.Aggregate(1L, static (a, b) => a * b), dtype: float64) * 0.37).sin().view(shape).@float();

    private static async Task<double[]> RunPeer()
    {
        var start = new ProcessStartInfo(File.Exists(DebianPython) ? DebianPython : "python3")
        {
            RedirectStandardOutput = true,
            RedirectStandardError = true,
        };
        start.ArgumentList.Add("-c");
        start.ArgumentList.Add(Script);
        Process process;
        try
        {
            process = Process.Start(start)!;
        }
        catch (System.ComponentModel.Win32Exception)
        {
            Assert.Skip("python3 is not installed: apt-get install python3-torch");
            return [];
        }
        using (process)
        {
            Task<string> errors = process.StandardError.ReadToEndAsync();
            string output = await process.StandardOutput.ReadToEndAsync();
            await process.WaitForExitAsync();
            string text = await errors;
            if (text.Contains("No module named 'torch'", StringComparison.Ordinal))
            {
                Assert.Skip("python3-torch is not installed: apt-get install python3-torch");
            }
            Assert.True(process.ExitCode == 0, text);
            string[] numbers = output.Split((char[]?)null, StringSplitOptions.RemoveEmptyEntries);
            return [.. numbers.Select(v => double.Parse(v, CultureInfo.InvariantCulture))];
        }
    }
}
