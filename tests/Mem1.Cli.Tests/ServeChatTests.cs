// A model with Qwen's chat template: messages of a chat become the tokens that its template gives.
using System.Net;
using System.Net.Http.Json;
using System.Text.Json;
using System.Text.Json.Nodes;
using Mem1.Cli.Serve;
using Mem1.Model;
using Mem1.Model.Checkpoints;
using Mem1.Model.Initialization;
using Mem1.Model.Tokenizers;

namespace Mem1.Cli.Tests;

public sealed class ServeChatTests
{
    private const string System = "You are a helpful assistant.";

    private static CancellationToken Token => TestContext.Current.CancellationToken;

    [Fact]
    public async Task SeveralMessagesAreReadWithinTheTemplate()
    {
        using var temp = new TempFolder();
        var tokenizer = BpeTrainer.Train(
            ["who is the king of france and who was the queen before him", "user assistant system"], 300, ["<|im_start|>", "<|im_end|>"],
            "<|im_end|>");
        var shape = new DecoderConfig
        {
            VocabularySize = tokenizer.VocabularySize,
            HiddenSize = 32,
            IntermediateSize = 64,
            Layers = 2,
            Heads = 4,
            KeyValueHeads = 2,
            HeadSize = 8,
            MaxPositions = 512,
        };
        var folder = temp["chat"];
        new Checkpoint(shape, ModelInitializer.Normal(shape, 1), tokenizer).Save(folder);
        // As Qwen2 has it: what comes first where no message is the system's.
        var path = Path.Combine(folder, "tokenizer_config.json");
        var settings = JsonNode.Parse(File.ReadAllText(path))!.AsObject();
        settings["chat_template"] =
            $"{{% for message in messages %}}{{% if loop.first and messages[0]['role'] != 'system' %}}{{{{ '<|im_start|>system\n{System}<|im_end|>\n' }}}}"
            + "{% endif %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
            + "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";
        File.WriteAllText(path, settings.ToJsonString());

        using var model = new ServedModel(folder, new ServeOptions { Name = "chat" });
        await using var server = await InferenceServer.Start(model, IPAddress.Loopback, 0, CancellationToken.None);
        using var client = new HttpClient(new SocketsHttpHandler { UseProxy = false });
        async Task<(HttpStatusCode Status, JsonElement Body)> Ask(params (string Role, string Content)[] messages)
        {
            var body = new JsonObject
            {
                ["messages"] = new JsonArray(
                    [.. messages.Select(m => (JsonNode)new JsonObject { ["role"] = m.Role, ["content"] = m.Content })]),
                ["max_tokens"] = 3,
                ["return_token_ids"] = true,
            };
            using var response = await client.PostAsJsonAsync(new Uri(server.Address, "v1/chat/completions"), body, Token);
            return (response.StatusCode, JsonDocument.Parse(await response.Content.ReadAsStringAsync(Token)).RootElement);
        }

        var cases = new ((string, string)[] Messages, string Rendered)[]
        {
            ([("user", "who is the king")],
                $"<|im_start|>system\n{System}<|im_end|>\n<|im_start|>user\nwho is the king<|im_end|>\n<|im_start|>assistant\n"),
            ([("system", "be brief"), ("user", "who is the king"), ("assistant", "him"), ("user", "and the queen before")],
                "<|im_start|>system\nbe brief<|im_end|>\n<|im_start|>user\nwho is the king<|im_end|>\n<|im_start|>assistant\nhim<|im_end|>\n"
                + "<|im_start|>user\nand the queen before<|im_end|>\n<|im_start|>assistant\n"),
            ([("user", "who"), ("user", "was the queen")],
                $"<|im_start|>system\n{System}<|im_end|>\n<|im_start|>user\nwho<|im_end|>\n<|im_start|>user\nwas the queen<|im_end|>\n"
                + "<|im_start|>assistant\n"),
        };
        foreach (var (messages, rendered) in cases)
        {
            var (status, body) = await Ask(messages);
            Assert.True(status == HttpStatusCode.OK, body.GetRawText());
            var choice = body.GetProperty("choices")[0];
            var ids = (choice.TryGetProperty("prompt_token_ids", out var own) ? own : body.GetProperty("prompt_token_ids"))
                .EnumerateArray().Select(i => i.GetInt32()).ToArray();
            Assert.Equal(rendered, tokenizer.Decode(ids));
            Assert.Equal(tokenizer.Encode(rendered), ids);
            Assert.Equal(ids.Length, body.GetProperty("usage").GetProperty("prompt_tokens").GetInt32());
            Assert.Equal("assistant", choice.GetProperty("message").GetProperty("role").GetString());
        }
    }
}
