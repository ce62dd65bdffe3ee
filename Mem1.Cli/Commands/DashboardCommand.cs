using System.CommandLine;
using System.Net;
using Mem1.Actors;
using Mem1.Cli.Output;
using Mem1.Dashboard;
using Mem1.Protocol.Security;

namespace Mem1.Cli.Commands;

/// <summary><c>mem1 dashboard</c>: looks at a run from its folder, at a learner elsewhere, or at a recorded run.</summary>
internal static class DashboardCommand
{
    /// <summary>Environment variable that holds the token of commands.</summary>
    internal const string TokenVariable = "MEM1_DASHBOARD_TOKEN";

    public static Command Create()
    {
        var run = new Option<DirectoryInfo?>("--run")
        {
            Description = "Folder of a run: finished, crashed, or going on in another process",
            HelpName = "DIR",
        };
        var learner = new Option<string?>("--learner")
        {
            Description = "A learner that runs elsewhere, by the address its workers use",
            HelpName = "HOST:PORT",
        };
        var security = new SecurityArguments();
        var viewer = ViewerArgument();
        var demo = new Option<bool>("--demo") { Description = "A recorded run" };
        var port = PortOption("--port");
        var listen = AddressOption("--listen");
        var command = new Command(
            "dashboard",
            """
            Look at a run in a browser. mem1 train brings its own at http://127.0.0.1:5080 while it runs.

            Examples:
              ./mem1 dashboard --demo
              ./mem1 dashboard --run runs/default
              ./mem1 dashboard --run runs/default --port 8080
              ./mem1 dashboard --learner gpu-node:5050           as it trains; commands go on to it
              ./mem1 dashboard --run runs/default --listen 0.0.0.0 --viewer-token-file viewers     docs/security.md
            """)
        {
            run, learner, demo, port, listen, viewer.Option,
        };
        security.AddTo(command);
        var guest = new GuestArguments(NodeRoles.Dashboard);
        guest.AddTo(command);
        command.SetAction(async (parse, cancellationToken) =>
        {
            var folder = parse.GetValue(run)?.FullName;
            var followed = parse.GetValue(learner);
            if ((folder is null ? 0 : 1) + (followed is null ? 0 : 1) + (parse.GetValue(demo) ? 1 : 0) != 1)
                throw new UserErrorException("say what to show: either --run DIR, --learner HOST:PORT or --demo.");
            var shown = security.Client(parse);
            var at = followed is null ? null : RolloutCommand.Address(followed, shown.Tls is null ? "http" : "https");
            using var loggers = Logs.ToStandardError(json: false);
            await using var node = at is null ? null : guest.Join(parse, at, shown, loggers);
            var server = await DashboardServer.StartAsync(
                new DashboardOptions
                {
                    Folder = folder,
                    Learner = at,
                    Security = shown,
                    Viewer = viewer.Read(parse),
                    Address = parse.GetValue(listen)!,
                    Port = parse.GetValue(port),
                },
                cancellationToken)
                .ConfigureAwait(false);
            await using (server.ConfigureAwait(false))
            {
                var what = folder ?? (followed is null ? "the recorded run" : $"the learner at {followed}");
                Console.WriteLine($"{what}: {server.Address} (Ctrl-C stops it)");
                await Task.Delay(Timeout.Infinite, cancellationToken).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
            }

            return 0;
        });
        return command;
    }

    /// <summary>The option for the address a dashboard binds.</summary>
    internal static Option<string> AddressOption(string name) => new(name)
    {
        Description = "Address of the dashboard; anything but loopback lets other machines look",
        HelpName = "ADDRESS",
        DefaultValueFactory = _ => "127.0.0.1",
    };

    /// <summary>The option for the port a dashboard listens on.</summary>
    internal static Option<int> PortOption(string name)
    {
        var port = new Option<int>(name)
        {
            Description = "Port of the dashboard; 0 takes a free one",
            HelpName = "PORT",
            DefaultValueFactory = _ => DashboardOptions.StandardPort,
        };
        port.Validators.Add(result =>
        {
            if (result.GetValueOrDefault<int>() is < 0 or > 65535) result.AddError($"{name} must be 0 to 65535.");
        });
        return port;
    }

    /// <summary>
    /// The dashboard inside a training; null when it is not wanted or cannot listen, which the user is told: the training goes on.
    /// </summary>
    /// <param name="reporter">Of the run.</param>
    /// <param name="folder">Of the run.</param>
    /// <param name="at">Address and port; null for no dashboard.</param>
    /// <param name="tokenFile">Where the token of commands is; null to take <see cref="TokenVariable"/> or make one.</param>
    /// <param name="viewer">What those must show that look; null for nothing.</param>
    /// <param name="worker">What workers show; null for nothing.</param>
    /// <exception cref="UserErrorException">The token that was given is none, or is that of another right.</exception>
    internal static IDisposable? Inside(
        DashboardReporter reporter, string folder, (string Address, int Port)? at, FileInfo? tokenFile, BearerToken? viewer = null,
        BearerToken? worker = null)
    {
        if (viewer is not null && worker is not null && viewer.IsSame(worker))
            throw new UserErrorException("workers and viewers have the same token (--token-file, --viewer-token-file); give each their own.");
        if (at is not { } wanted) return null;
        var chosen = Chosen(tokenFile);
        foreach (var (other, name) in new[] { (viewer, "viewers"), (worker, "workers") })
        {
            if (chosen is { } given && other is not null && given.Token.IsSame(other))
                throw new UserErrorException($"the dashboard's commands take the token of the {name} ({given.Where}); give each their own.");
        }

        try
        {
            var (token, where) = chosen ?? CommandToken.OfRun(folder);
            var server = DashboardServer.StartAsync(
                new DashboardOptions
                {
                    Folder = folder,
                    Address = wanted.Address,
                    Port = wanted.Port,
                    Live = reporter,
                    Telemetry = reporter.Telemetry,
                    Commands = reporter.Commands,
                    Token = token,
                    Viewer = viewer,
                },
                CancellationToken.None)
                .GetAwaiter().GetResult();
            (reporter.Dashboard, reporter.Viewer) = (server, viewer);
            reporter.Note($"Dashboard: {server.Address}");
            reporter.Note($"Its commands ask for the token in {where}");
            if (viewer is null && !IPAddress.IsLoopback(IPAddress.Parse(wanted.Address)))
                reporter.Note("Whoever reaches the dashboard may look: set a token for viewers (--viewer-token-file, docs/security.md).");
            return new Running(server);
        }
        catch (DashboardException e)
        {
            reporter.Note($"{e.Message.TrimEnd('.')} with --dashboard-port, or --no-dashboard. The training goes on without it.");
            return null;
        }
    }

    /// <summary>The option for the file of the token that commands need.</summary>
    internal static Option<FileInfo?> TokenOption() => new("--dashboard-token-file")
    {
        Description = $"File with the token that the dashboard's commands need; {TokenVariable} says it too, "
            + "else one is made in the run's folder",
        HelpName = "FILE",
    };

    /// <summary>The option for the file of the token that looking needs.</summary>
    internal static TokenArgument ViewerArgument() =>
        new("--viewer-token-file", "MEM1_VIEWER_TOKEN", "File with the token that those must show who look at the dashboard");

    /// <summary>The token the user chose, and where it stands; null if there is none.</summary>
    private static (CommandToken Token, string Where)? Chosen(FileInfo? file)
    {
        try
        {
            if (file is not null) return (CommandToken.Of(File.ReadAllText(file.FullName), file.FullName), file.FullName);
            return Environment.GetEnvironmentVariable(TokenVariable) is { Length: > 0 } given
                ? (CommandToken.Of(given, TokenVariable), TokenVariable) : null;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new UserErrorException($"the token file {file!.FullName} cannot be read ({e.Message.TrimEnd('.')}).", e);
        }
        catch (DashboardException e)
        {
            throw new UserErrorException(e.Message, e);
        }
    }

    private sealed class Running(DashboardServer server) : IDisposable
    {
        public void Dispose() => server.DisposeAsync().AsTask().GetAwaiter().GetResult();
    }
}
