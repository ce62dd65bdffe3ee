// Keeps: a secret is given by file or environment variable, never on the command line, where everybody on the machine can read it.
using System.CommandLine;
using Mem1.Protocol.Security;

namespace Mem1.Cli.Commands;

/// <summary>The options that say who a process is and whom it trusts; every one has an environment variable for manifests.</summary>
/// <param name="tokenOption">Name of the option for the token's file.</param>
internal sealed class SecurityArguments(string tokenOption = "--token-file")
{
    /// <summary>Holds the token itself.</summary>
    public const string TokenVariable = "MEM1_TOKEN";

    private const string CertificateVariable = "MEM1_TLS_CERT", KeyVariable = "MEM1_TLS_KEY", AuthorityVariable = "MEM1_TLS_CA";

    private readonly TokenArgument _token = new(tokenOption, TokenVariable, "File with the token that is shown at the learner's port");

    private readonly Option<string?> _certificate = new("--tls-cert")
    {
        Description = $"Own certificate, PEM, looked at again when it is renewed ({CertificateVariable})",
        HelpName = "FILE",
    };

    private readonly Option<string?> _key = new("--tls-key")
    {
        Description = $"Its key, PEM ({KeyVariable})",
        HelpName = "FILE",
    };

    private readonly Option<string?> _authority = new("--tls-ca")
    {
        Description = $"Authorities that the other side's certificate must come from, PEM ({AuthorityVariable})",
        HelpName = "FILE",
    };

    /// <summary>Adds the options to a command.</summary>
    public void AddTo(Command command)
    {
        foreach (var option in (Option[])[_token.Option, _certificate, _key, _authority]) command.Add(option);
    }

    /// <summary>What a server asks of callers, and shows them.</summary>
    /// <exception cref="SecurityException">A file is unfit.</exception>
    /// <exception cref="UserErrorException">The options contradict each other.</exception>
    public (BearerToken? Token, TlsFiles? Tls) Server(ParseResult parse)
    {
        var tls = Tls(parse);
        if (tls is { HasCertificate: false })
            throw new UserErrorException("--tls-ca lets in callers with a certificate, which needs TLS: give --tls-cert and --tls-key too.");
        return (_token.Read(parse), tls);
    }

    /// <summary>What a client shows.</summary>
    /// <exception cref="SecurityException">A file is unfit.</exception>
    public ChannelSecurity Client(ParseResult parse) => new(_token.Read(parse), Tls(parse));

    private TlsFiles? Tls(ParseResult parse)
    {
        var (certificate, key, authority) = (
            parse.GetValue(_certificate) ?? Variable(CertificateVariable), parse.GetValue(_key) ?? Variable(KeyVariable),
            parse.GetValue(_authority) ?? Variable(AuthorityVariable));
        return (certificate, key, authority) == default ? null : new TlsFiles(certificate, key, authority);
    }

    private static string? Variable(string name) => Environment.GetEnvironmentVariable(name) is { Length: > 0 } value ? value : null;
}
