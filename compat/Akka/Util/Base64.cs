namespace Akka.Util;

/// <summary>The digits of generated actor names: base 64, least significant first.</summary>
internal static class Base64
{
    private const string Alphabet = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+~";

    internal static string Digits(long number)
    {
        var text = new System.Text.StringBuilder();
        do
        {
            text.Append(Alphabet[(int)(number & 63)]);
            number >>= 6;
        }
        while (number != 0);
        return text.ToString();
    }
}
