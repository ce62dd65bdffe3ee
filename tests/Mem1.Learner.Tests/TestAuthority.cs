using System.Net;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;

namespace Mem1.Tests;

/// <summary>A certificate authority of a test; its files lie in the test's folder.</summary>
internal sealed class TestAuthority : IDisposable
{
    public const string Server = "1.3.6.1.5.5.7.3.1", Client = "1.3.6.1.5.5.7.3.2";

    private readonly X509Certificate2 _own;
    private readonly string _folder;

    public TestAuthority(string name, string folder)
    {
        _folder = folder;
        using var key = ECDsa.Create(ECCurve.NamedCurves.nistP256);
        var request = new CertificateRequest($"CN={name}", key, HashAlgorithmName.SHA256);
        request.CertificateExtensions.Add(new X509BasicConstraintsExtension(true, false, 0, true));
        request.CertificateExtensions.Add(new X509KeyUsageExtension(X509KeyUsageFlags.KeyCertSign, true));
        _own = request.CreateSelfSigned(DateTimeOffset.UtcNow.AddDays(-10), DateTimeOffset.UtcNow.AddDays(10));
        Path = System.IO.Path.Combine(folder, $"{name}-ca.pem");
        File.WriteAllText(Path, _own.ExportCertificatePem());
    }

    /// <summary>PEM of the authority.</summary>
    public string Path { get; }

    /// <summary>Makes a certificate; one of the same name is replaced.</summary>
    public (string Certificate, string Key) Issue(string name, string purpose, string[]? addresses = null, int from = -5, int days = 5)
    {
        using var key = ECDsa.Create(ECCurve.NamedCurves.nistP256);
        var request = new CertificateRequest($"CN={name}", key, HashAlgorithmName.SHA256);
        request.CertificateExtensions.Add(new X509BasicConstraintsExtension(false, false, 0, true));
        request.CertificateExtensions.Add(new X509EnhancedKeyUsageExtension([new Oid(purpose)], true));
        if (addresses is not null)
        {
            var names = new SubjectAlternativeNameBuilder();
            foreach (var address in addresses) names.AddIpAddress(IPAddress.Parse(address));
            request.CertificateExtensions.Add(names.Build());
        }

        using var made = request.Create(
            _own, DateTimeOffset.UtcNow.AddDays(from), DateTimeOffset.UtcNow.AddDays(days), RandomNumberGenerator.GetBytes(16));
        var (certificate, keyPath) = (
            System.IO.Path.Combine(_folder, $"{_own.Subject}-{name}.pem"), System.IO.Path.Combine(_folder, $"{_own.Subject}-{name}.key"));
        File.WriteAllText(certificate, made.ExportCertificatePem());
        File.WriteAllText(keyPath, key.ExportPkcs8PrivateKeyPem());
        return (certificate, keyPath);
    }

    public void Dispose() => _own.Dispose();
}
