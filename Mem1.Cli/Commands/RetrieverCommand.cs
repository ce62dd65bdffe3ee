using System.CommandLine;
using System.Globalization;
using System.Net;
using Mem1.Actors;
using Mem1.Cli.Output;
using Mem1.Cli.Retriever;
using Mem1.Environments.Retrieval;

namespace Mem1.Cli.Commands;

/// <summary><c>mem1 retriever</c>: an index as a service.</summary>
internal static class RetrieverCommand
{
    // That of the original's clients.
    private const int StandardPort = 8000;

    /// <summary>Holds the retriever's token, here and where it is asked.</summary>
    internal const string TokenVariable = "MEM1_RETRIEVER_TOKEN";

    public static Command Create()
    {
        var index = new Option<FileInfo>("--index") { Description = "Made by mem1 data index", Required = true, HelpName = "INDEX" };
        var port = new Option<int>("--port")
        {
            Description = "Port to listen on; 0 for any that is free",
            HelpName = "PORT",
            DefaultValueFactory = _ => StandardPort,
        };
        var host = new Option<string>("--host")
        {
            Description = "IP address to listen on; 0.0.0.0 lets other machines in",
            HelpName = "ADDRESS",
            DefaultValueFactory = _ => "127.0.0.1",
        };
        var topK = new Option<int>("--topk")
        {
            Description = "Passages for a query when the request does not say",
            HelpName = "N",
            DefaultValueFactory = _ => 3,
        };
        var learner = new Option<string?>("--learner")
        {
            Description = "Where the learner of a run listens: be shown among the nodes of its cluster (docs/cluster.md)",
            HelpName = "HOST:PORT",
        };
        var token = new TokenArgument("--token-file", TokenVariable, "File with the token that callers must show");
        port.Validators.Add(Within(port, 0, ushort.MaxValue));
        topK.Validators.Add(Within(topK, 1, RetrieverServer.MaxTopK));
        var command = new Command(
            "retriever",
            """
            Serve an index over HTTP, by the protocol of MEM1 and Search-R1, so that their clients and mem1 train work against it.

            Examples:
              ./mem1 retriever --index corpus.index
              curl -s localhost:8000/retrieve -d '{"queries": ["who?"], "topk": 3, "return_scores": true}'
              ./mem1 train --tasks T.jsonl --corpus C.jsonl --set environment.retriever.url=http://127.0.0.1:8000/retrieve
              ./mem1 retriever --index corpus.index --host 0.0.0.0 --token-file token     workers: environment.retriever.token_file
            """)
        {
            index, port, host, topK, learner, token.Option,
        };
        var security = new SecurityArguments("--learner-token-file"); // what is shown to the learner
        security.AddTo(command);
        var guest = new GuestArguments(NodeRoles.Retriever);
        guest.AddTo(command);
        command.SetAction(async (parse, cancellationToken) =>
        {
            if (!IPAddress.TryParse(parse.GetValue(host), out var address))
                throw new UserErrorException($"--host is \"{parse.GetValue(host)}\"; it must be an IP address.");
            var wanted = token.Read(parse);
            using var opened = CorpusIndex.Open(parse.GetValue(index)!.FullName);
            var server = await RetrieverServer.Start(opened, address, parse.GetValue(port), parse.GetValue(topK), wanted, cancellationToken)
                .ConfigureAwait(false);
            using var loggers = Logs.ToStandardError(json: false);
            await using var node = parse.GetValue(learner) is { } run ? Join(run) : null;
            await using (server.ConfigureAwait(false))
            {
                Console.WriteLine(string.Create(
                    CultureInfo.InvariantCulture, $"{opened.Count:N0} passages at {new Uri(server.Address, "retrieve")}; Ctrl-C stops"));
                if (wanted is null && !IPAddress.IsLoopback(address))
                    Console.WriteLine("Whoever reaches this address may search: set a token (--token-file, docs/security.md).");
                try
                {
                    await Task.Delay(Timeout.Infinite, cancellationToken).ConfigureAwait(false);
                }
                catch (OperationCanceledException)
                {
                    Console.WriteLine("stopping");
                }
            }

            return 0;

            ClusterGuest Join(string run)
            {
                var shown = security.Client(parse);
                return guest.Join(parse, RolloutCommand.Address(run, shown.Tls is null ? "http" : "https"), shown, loggers);
            }
        });
        return command;
    }

    private static Action<System.CommandLine.Parsing.OptionResult> Within(Option<int> option, int least, int most) => result =>
    {
        if (result.Tokens.Count == 1 && int.TryParse(result.Tokens[0].Value, CultureInfo.InvariantCulture, out var n)
            && (n < least || n > most))
        {
            result.AddError($"{option.Name} is {n}; it must be from {least} to {most}.");
        }
    };
}
