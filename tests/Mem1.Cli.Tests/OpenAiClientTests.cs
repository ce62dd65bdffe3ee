// OpenAI's own client for Node against mem1 serve: what it returns is what the engine computed, bit for bit.
using System.Text.Json;
using System.Text.Json.Nodes;
using Mem1.Model;
using Mem1.Model.Generation;
using Mem1.Model.Tests;

namespace Mem1.Cli.Tests;

public sealed class OpenAiClientTests(ServedBuiltIn served) : IClassFixture<ServedBuiltIn>
{
    [Fact]
    public void CompletionsChatsStreamsLogProbsAndTokenIdsComeThroughThePublicClient()
    {
        var folder = Peers.NpmPeer("openai", "openai");
        var tokenizer = served.Checkpoint.Tokenizer!;
        var prompt = served.Prompt(7);
        var text = tokenizer.Decode(prompt);
        JsonObject Body(int seed) => new()
        {
            ["model"] = ServedBuiltIn.Name,
            ["seed"] = seed,
            ["temperature"] = 0.7,
            ["max_tokens"] = 20,
            ["n"] = 2,
            ["return_token_ids"] = true,
        };
        var completion = Body(5);
        completion["prompt"] = new JsonArray([.. prompt.Select(i => (JsonNode)i)]);
        completion["logprobs"] = 3;
        var chat = Body(6);
        chat["messages"] = new JsonArray(new JsonObject { ["role"] = "user", ["content"] = text });
        chat["logprobs"] = true;
        chat["top_logprobs"] = 3;
        var refused = completion.DeepClone().AsObject();
        refused["presence_penalty"] = 0.5;
        var ask = new JsonObject
        {
            ["base"] = new Uri(served.Server.Address, "v1").ToString(),
            ["completion"] = completion,
            ["chat"] = chat,
            ["refused"] = refused,
        };
        var ended = Peers.Run("node", ["client.mjs"], folder, ask.ToJsonString())!.Value;
        Assert.True(ended.Exit == 0, ended.Error);
        var answer = JsonDocument.Parse(ended.Output).RootElement;

        Assert.Equal([ServedBuiltIn.Name], answer.GetProperty("models").EnumerateArray().Select(m => m.GetString()!));
        foreach (var (name, seed, context) in new[] { ("completion", 5UL, prompt), ("chat", 6UL, tokenizer.EncodePrompt(text)) })
        {
            var whole = answer.GetProperty(name);
            Assert.Equal(2, whole.GetProperty("choices").GetArrayLength());
            var drawn = 0;
            foreach (var choice in whole.GetProperty("choices").EnumerateArray())
            {
                var index = choice.GetProperty("index").GetInt32();
                var expected = Alone(context, index == 0 ? seed : RandomStream.Bits(seed, (ulong)index));
                drawn += expected.Tokens.Length;
                var shown = tokenizer.Decode(expected.Finish == FinishReason.EndOfText ? expected.Tokens[..^1] : expected.Tokens);
                Assert.Equal(expected.Finish == FinishReason.Length ? "length" : "stop", choice.GetProperty("finish_reason").GetString());
                Assert.Equal(expected.Tokens, Ints(choice.GetProperty("token_ids")));
                Assert.Equal(expected.LogProbs, LogProbs(choice));
                Assert.Equal(shown, Text(choice, "message"));

                var parts = answer.GetProperty(name + "Pieces").EnumerateArray()
                    .SelectMany(p => p.GetProperty("choices").EnumerateArray()).Where(c => c.GetProperty("index").GetInt32() == index).ToList();
                Assert.True(parts.Count > 1, "a stream has pieces");
                Assert.Equal(shown, string.Concat(parts.Select(p => Text(p, "delta"))));
                Assert.Equal(
                    expected.Tokens, parts.SelectMany(p => p.TryGetProperty("token_ids", out var ids) ? Ints(ids) : []));
                Assert.Equal(expected.LogProbs, parts.SelectMany(LogProbs));
                Assert.Equal(choice.GetProperty("finish_reason").GetString(), parts[^1].GetProperty("finish_reason").GetString());
            }

            Assert.Equal(drawn, whole.GetProperty("usage").GetProperty("completion_tokens").GetInt32());
            var last = answer.GetProperty(name + "Pieces").EnumerateArray().Last();
            Assert.Equal(drawn, last.GetProperty("usage").GetProperty("completion_tokens").GetInt32());
        }

        var refusal = answer.GetProperty("refusal");
        Assert.Equal(("BadRequestError", 400), (refusal.GetProperty("type").GetString(), refusal.GetProperty("status").GetInt32()));
        Assert.Contains("presence_penalty", refusal.GetProperty("message").GetString(), StringComparison.Ordinal);
    }

    private GenerationResult Alone(int[] prompt, ulong seed)
    {
        using var engine = new CpuGenerationEngine(served.Checkpoint.Config, served.Checkpoint.Weights, 0, served.Checkpoint.Tokenizer!);
        engine.Submit(new GenerationRequest(1, prompt, new SamplingOptions(0.7f, 1, 20), [], seed));
        while (true)
        {
            if (engine.Step() is [var result]) return result;
        }
    }

    private static int[] Ints(JsonElement list) =>
        list.ValueKind == JsonValueKind.Array ? [.. list.EnumerateArray().Select(e => e.GetInt32())] : [];

    /// <summary>Completions have a list of numbers, chats a list of objects.</summary>
    private static float[] LogProbs(JsonElement choice)
    {
        if (!choice.TryGetProperty("logprobs", out var all) || all.ValueKind != JsonValueKind.Object) return [];
        return all.TryGetProperty("token_logprobs", out var numbers) ? [.. numbers.EnumerateArray().Select(n => n.GetSingle())]
            : [.. all.GetProperty("content").EnumerateArray().Select(t => t.GetProperty("logprob").GetSingle())];
    }

    private static string Text(JsonElement choice, string chat) =>
        choice.TryGetProperty("text", out var text) ? text.GetString()!
        : choice.GetProperty(chat).TryGetProperty("content", out var content) ? content.GetString() ?? "" : "";
}
