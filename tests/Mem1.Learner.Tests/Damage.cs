// Damaged files out of sound ones: bytes changed, cut out, doubled, spliced and cut off, and values of JSON replaced. The same number always
// gives the same damage.
using System.Text;

namespace Mem1.Tests;

internal static class Damage
{
    private static readonly string[] s_splices =
    [
        "null", "true", "-1", "1e999", "9223372036854775807", "18446744073709551616", "\"\"", "\"\\ud800\"", "[]", "{}", "[[[[[[[[[[", "0.5", ",", ":",
        "}", "\u0000", "\"../../etc/passwd\"", "4294967296", "\"\\u0000\"", "2147483648", "[0,0]", "[1,-1]", "\"a\":1", "[null]", "{\"a\":null}",
    ];

    /// <summary>A folder for thousands of small files: in memory, where the system has such a place.</summary>
    public static string Folder()
    {
        var place = Directory.Exists("/dev/shm") ? "/dev/shm" : Path.GetTempPath();
        return Directory.CreateDirectory(Path.Combine(place, $"mem1-damage-{Guid.NewGuid():N}")).FullName;
    }

    public static byte[] Of(byte[] sound, int number)
    {
        var random = new Random(number);
        var bytes = new List<byte>(sound);
        for (var changes = 1 + random.Next(3); changes > 0 && bytes.Count > 0; changes--)
        {
            int place = random.Next(bytes.Count), length = Math.Min(1 + random.Next(12), bytes.Count - place);
            switch (random.Next(7))
            {
                case 0:
                    bytes[place] = (byte)random.Next(256);
                    break;
                case 1:
                    bytes.RemoveRange(place, length);
                    break;
                case 2:
                    bytes.InsertRange(place, bytes.GetRange(place, length));
                    break;
                case 3:
                    bytes.InsertRange(place, Encoding.UTF8.GetBytes(s_splices[random.Next(s_splices.Length)]));
                    break;
                case 4:
                    bytes.RemoveRange(place, bytes.Count - place);
                    break;
                case 5:
                    // Where a length may be: the highest and lowest there are.
                    for (var i = place; i < Math.Min(place + 8, bytes.Count); i++) bytes[i] = (byte)(number % 2 == 0 ? 0xFF : 0);
                    break;
                default:
                    // In the place of a value: what most often still parses as JSON.
                    var colon = bytes.IndexOf((byte)':', place);
                    var end = colon < 0 ? -1 : bytes.FindIndex(colon, b => b is (byte)',' or (byte)'}' or (byte)'\n');
                    if (end > colon)
                    {
                        bytes.RemoveRange(colon + 1, end - colon - 1);
                        bytes.InsertRange(colon + 1, Encoding.UTF8.GetBytes(s_splices[random.Next(s_splices.Length)]));
                    }

                    break;
            }
        }

        return [.. bytes];
    }

    /// <summary>
    /// Reads many damaged files: each is accepted or refused by the typed exception in one sentence, nothing else escapes, and none makes the
    /// reader take more memory than a multiple of what it is given.
    /// </summary>
    /// <param name="sound">Read without complaint.</param>
    /// <param name="inputs">How many.</param>
    /// <param name="read">The reader; what it returns counts for nothing.</param>
    /// <param name="room">Bytes that reading may take beside 1000 for each byte of the file.</param>
    public static void Survives<TExpected>(byte[] sound, int inputs, Action<byte[]> read, long room = 4 << 20)
        where TExpected : Exception
    {
        read(sound);
        var (refused, accepted) = (0, 0);
        for (var i = 0; i < inputs; i++)
        {
            var input = Of(sound, i);
            var before = GC.GetAllocatedBytesForCurrentThread();
            try
            {
                read(input);
                accepted++;
            }
            catch (TExpected e)
            {
                refused++;
                Assert.InRange(e.Message.Length, 10, 2_000);
                Assert.DoesNotContain('\n', e.Message);
            }
            catch (Exception e) when (e is not Xunit.Sdk.XunitException)
            {
                var shown = Convert.ToHexString(input.AsSpan(0, Math.Min(400, input.Length)));
                Assert.Fail($"Input {i}: {e.GetType().Name} {e.Message}\n{shown}\n{e.StackTrace}");
            }

            var took = GC.GetAllocatedBytesForCurrentThread() - before;
            Assert.True(took < room + (1000L * sound.Length), $"Input {i} of {input.Length} bytes took {took} bytes.");
        }

        Assert.True(refused > 0 && accepted + refused == inputs);
    }
}
