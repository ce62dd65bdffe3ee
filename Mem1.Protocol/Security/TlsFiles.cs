// Keeps: files are looked at again at every handshake, at most every few seconds, so a renewed certificate needs no restart; files that
// cannot be read any more, or do not fit each other (half of them replaced), leave the last good ones in use. Only the given authority is
// trusted where one is given, never the system's beside it.
using System.Net.Security;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;

namespace Mem1.Protocol.Security;

/// <summary>A certificate with its key, and whom to trust, from PEM files.</summary>
public sealed class TlsFiles
{
    private const string ServerPurpose = "1.3.6.1.5.5.7.3.1", ClientPurpose = "1.3.6.1.5.5.7.3.2"; // RFC 5280, 4.2.1.12

    private static readonly TimeSpan RereadInterval = TimeSpan.FromSeconds(5);

    private readonly string? _certificatePath, _keyPath, _authorityPath;
    private readonly TimeProvider _time;
    private readonly Lock _lock = new();
    private Loaded _current;
    private long _looked;

    /// <summary>Reads the files.</summary>
    /// <param name="certificate">PEM: the own certificate first, then those between it and the authority; null for none.</param>
    /// <param name="key">PEM of its key; null when the certificate's file holds it.</param>
    /// <param name="authority">PEM of the authorities that the other side's certificate must come from; null for the system's.</param>
    /// <param name="time">The clock; the system's if null.</param>
    /// <exception cref="SecurityException">A file cannot be read or holds something else.</exception>
    public TlsFiles(string? certificate, string? key, string? authority, TimeProvider? time = null)
    {
        (_certificatePath, _keyPath, _authorityPath, _time) = (certificate, key, authority, time ?? TimeProvider.System);
        if (certificate is null && key is not null)
            throw new SecurityException($"The key {key} is given without its certificate.");
        _current = Load();
        _looked = _time.GetTimestamp();
    }

    /// <summary>Whether there is a certificate to show.</summary>
    public bool HasCertificate => _certificatePath is not null;

    /// <summary>Whether the other side's certificate must come from an authority of its own.</summary>
    public bool HasAuthority => _authorityPath is not null;

    /// <summary>For one handshake of a server: shows the certificate; with an authority, callers must show one of it.</summary>
    /// <exception cref="InvalidOperationException">There is no certificate.</exception>
    public SslServerAuthenticationOptions ServerOptions()
    {
        var now = Current();
        var options = new SslServerAuthenticationOptions
        {
            ServerCertificateContext = now.Own ?? throw new InvalidOperationException("A server needs a certificate."),
            ApplicationProtocols = [SslApplicationProtocol.Http2, SslApplicationProtocol.Http11],
            ClientCertificateRequired = HasAuthority,
        };
        if (HasAuthority)
        {
            options.RemoteCertificateValidationCallback = (_, certificate, chain, _) =>
                Trusts(now, certificate, chain, ClientPurpose);
        }

        return options;
    }

    /// <summary>For the connections of a client: shows the certificate, if there is one, to a server whose certificate must be right.</summary>
    public SslClientAuthenticationOptions ClientOptions()
    {
        var options = new SslClientAuthenticationOptions();
        if (HasCertificate) options.LocalCertificateSelectionCallback = (_, _, _, _, _) => Current().Own!.TargetCertificate;
        if (HasAuthority)
        {
            options.RemoteCertificateValidationCallback = (_, certificate, chain, errors) =>
                (errors & ~SslPolicyErrors.RemoteCertificateChainErrors) == SslPolicyErrors.None
                && Trusts(Current(), certificate, chain, ServerPurpose);
        }

        return options;
    }

    private static bool Trusts(Loaded files, X509Certificate? certificate, X509Chain? sent, string purpose)
    {
        if (certificate is not X509Certificate2 leaf) return false;
        using var chain = new X509Chain();
        chain.ChainPolicy.TrustMode = X509ChainTrustMode.CustomRootTrust;
        chain.ChainPolicy.CustomTrustStore.AddRange(files.Authorities!);
        chain.ChainPolicy.ApplicationPolicy.Add(new Oid(purpose));
        chain.ChainPolicy.RevocationMode = X509RevocationMode.NoCheck; // an authority of one's own publishes no lists; renew instead
        if (sent is not null) chain.ChainPolicy.ExtraStore.AddRange(sent.ChainPolicy.ExtraStore);
        return chain.Build(leaf);
    }

    private Loaded Current()
    {
        lock (_lock)
        {
            if (_time.GetElapsedTime(_looked) < RereadInterval) return _current;
            _looked = _time.GetTimestamp();
            try
            {
                _current = Load();
            }
            catch (SecurityException)
            {
                // Half replaced, or gone: the next look may find them whole.
            }

            return _current;
        }
    }

    private Loaded Load()
    {
        var own = _certificatePath is null ? null : LoadOwn(_certificatePath, _keyPath ?? _certificatePath);
        var authorities = _authorityPath is null ? null : LoadAll(_authorityPath);
        return new Loaded(own, authorities);
    }

    private static SslStreamCertificateContext LoadOwn(string certificate, string key)
    {
        try
        {
            var leaf = X509Certificate2.CreateFromPemFile(certificate, key);
            var between = new X509Certificate2Collection(LoadAll(certificate).Skip(1).ToArray());
            return SslStreamCertificateContext.Create(leaf, between, offline: true);
        }
        catch (Exception e) when (e is CryptographicException or IOException or UnauthorizedAccessException or ArgumentException)
        {
            throw new SecurityException($"The certificate {certificate} with the key {key} cannot be used: {e.Message}", e);
        }
    }

    private static X509Certificate2Collection LoadAll(string path)
    {
        var all = new X509Certificate2Collection();
        try
        {
            all.ImportFromPemFile(path);
        }
        catch (Exception e) when (e is CryptographicException or IOException or UnauthorizedAccessException)
        {
            throw new SecurityException($"The certificates of {path} cannot be read: {e.Message}", e);
        }

        return all.Count > 0 ? all : throw new SecurityException($"The file {path} holds no certificate in PEM form.");
    }

    private sealed record Loaded(SslStreamCertificateContext? Own, X509Certificate2Collection? Authorities);
}
