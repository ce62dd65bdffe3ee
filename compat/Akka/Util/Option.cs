namespace Akka.Util;

public readonly struct Option<T>
{
    public static readonly Option<T> None;

    public Option(T value)
    {
        Value = value;
        HasValue = value is not null;
    }

    public bool HasValue { get; }

    public T Value { get; }

    public T GetOrElse(T fallbackValue) => HasValue ? Value : fallbackValue;
}
