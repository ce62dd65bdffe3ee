// Messages as bytes. The choice follows the original: protobuf for IMessage, raw for byte[], primitive for string, int and long, a form
// of its own for the library's messages, JSON with type names for the rest. References become paths and are looked up again on the
// other side.
using System.Collections.Concurrent;
using System.Reflection;
using System.Text.Json;
using System.Text.Json.Serialization;
using Akka.Actor;
using Akka.Remote;
using Google.Protobuf;

namespace Akka.Serialization;

internal sealed class MessageCodec
{
    // The numbers of the original's serializers; 6 is its container for selections.
    private const byte Null = 0;
    private const byte Json = 1;
    private const byte Protobuf = 2;
    private const byte Raw = 4;
    private const byte Selection = 6;
    private const byte Misc = 16;
    private const byte Primitive = 17;

    private static readonly ConcurrentDictionary<Type, string> s_names = new();
    private static readonly ConcurrentDictionary<string, Type> s_types = new();

    private readonly RemoteActorRefProvider _provider;
    private readonly JsonSerializerOptions _json;

    internal MessageCodec(RemoteActorRefProvider provider)
    {
        _provider = provider;
        _json = new JsonSerializerOptions
        {
            IncludeFields = true,
            NumberHandling = JsonNumberHandling.AllowNamedFloatingPointLiterals,
            Converters = { new ReferenceConverter(provider), new ObjectConverter() },
        };
    }

    internal void Write(BinaryWriter to, object message)
    {
        switch (message)
        {
            case null:
                to.Write(Null);
                break;
            case IMessage protobuf:
                to.Write(Protobuf);
                to.Write(NameOf(message.GetType()));
                WriteBytes(to, protobuf.ToByteArray());
                break;
            case byte[] bytes:
                to.Write(Raw);
                WriteBytes(to, bytes);
                break;
            case string text:
                to.Write(Primitive);
                to.Write('S');
                to.Write(text);
                break;
            case int number:
                to.Write(Primitive);
                to.Write('I');
                to.Write(number);
                break;
            case long number:
                to.Write(Primitive);
                to.Write('L');
                to.Write(number);
                break;
            case ActorSelectionMessage selection:
                to.Write(Selection);
                to.Write(selection.Elements.Count);
                foreach (var element in selection.Elements)
                {
                    to.Write(element);
                }

                Write(to, selection.Message);
                break;
            default:
                if (!TryWriteMisc(to, message))
                {
                    to.Write(Json);
                    to.Write(NameOf(message.GetType()));
                    WriteBytes(to, JsonSerializer.SerializeToUtf8Bytes(message, message.GetType(), _json));
                }

                break;
        }
    }

    internal object Read(BinaryReader from)
    {
        var kind = from.ReadByte();
        switch (kind)
        {
            case Null:
                return null;
            case Json:
                var type = TypeOf(from.ReadString());
                return JsonSerializer.Deserialize(ReadBytes(from), type, _json);
            case Protobuf:
                var made = (IMessage)Activator.CreateInstance(TypeOf(from.ReadString()));
                made.MergeFrom(ReadBytes(from));
                return made;
            case Raw:
                return ReadBytes(from);
            case Selection:
                var elements = new string[Checked(from.ReadInt32(), from)];
                for (var i = 0; i < elements.Length; i++)
                {
                    elements[i] = from.ReadString();
                }

                return new ActorSelectionMessage(Read(from), elements);
            case Misc:
                return ReadMisc(from);
            case Primitive:
                return from.ReadChar() switch
                {
                    'S' => from.ReadString(),
                    'I' => from.ReadInt32(),
                    'L' => from.ReadInt64(),
                    var other => throw new InvalidDataException($"Unknown primitive [{other}]."),
                };
            default:
                throw new InvalidDataException($"Unknown serializer [{kind}].");
        }
    }

    private static string NameOf(Type type) => s_names.GetOrAdd(
        type, static it => it.IsGenericType || it.IsArray ? it.AssemblyQualifiedName : $"{it.FullName}, {it.Assembly.GetName().Name}");

    private static Type TypeOf(string name) => s_types.GetOrAdd(
        name, static it => Type.GetType(it) ?? throw new InvalidDataException($"This process has no type [{it}]."));

    private static void WriteBytes(BinaryWriter to, byte[] bytes)
    {
        to.Write(bytes.Length);
        to.Write(bytes);
    }

    private static byte[] ReadBytes(BinaryReader from) => from.ReadBytes(Checked(from.ReadInt32(), from));

    private static int Checked(int length, BinaryReader from) =>
        length >= 0 && length <= from.BaseStream.Length ? length : throw new InvalidDataException($"A length of {length} is not possible.");

    private static Exception Rebuild(string typeName, string message)
    {
        // Only the type and the message cross the border, as in the original a stack trace is of no use elsewhere.
        if (Type.GetType(typeName) is { } type && typeof(Exception).IsAssignableFrom(type)
            && type.GetConstructor(BindingFlags.Public | BindingFlags.Instance, [typeof(string)]) is { } make)
        {
            return (Exception)make.Invoke([message]);
        }

        return new RemoteFailureException($"{typeName}: {message}");
    }

    private bool TryWriteMisc(BinaryWriter to, object message)
    {
        switch (message)
        {
            case Identify identify:
                Start('I');
                Write(to, identify.MessageId);
                return true;
            case ActorIdentity identity:
                Start('A');
                to.Write(_provider.Serialized(identity.Subject));
                Write(to, identity.MessageId);
                return true;
            case IActorRef reference:
                Start('R');
                to.Write(_provider.Serialized(reference));
                return true;
            case PoisonPill:
                Start('P');
                return true;
            case Kill:
                Start('K');
                return true;
            case ReceiveTimeout:
                Start('T');
                return true;
            case Status.Success success:
                Start('S');
                Write(to, success.Status);
                return true;
            case Status.Failure failure:
                Start('F');
                to.Write(failure.Cause is null ? "" : NameOf(failure.Cause.GetType()));
                to.Write(failure.Cause?.Message ?? "");
                Write(to, failure.State);
                return true;
            default:
                return false;
        }

        void Start(char manifest)
        {
            to.Write(Misc);
            to.Write(manifest);
        }
    }

    private object ReadMisc(BinaryReader from)
    {
        switch (from.ReadChar())
        {
            case 'I':
                return new Identify(Read(from));
            case 'A':
                var subject = _provider.Resolve(from.ReadString());
                return new ActorIdentity(Read(from), subject);
            case 'R':
                return _provider.Resolve(from.ReadString()) ?? ActorRefs.Nobody;
            case 'P':
                return PoisonPill.Instance;
            case 'K':
                return Kill.Instance;
            case 'T':
                return ReceiveTimeout.Instance;
            case 'S':
                return new Status.Success(Read(from));
            case 'F':
                var (type, text) = (from.ReadString(), from.ReadString());
                return new Status.Failure(type.Length == 0 ? null : Rebuild(type, text), Read(from));
            case var other:
                throw new InvalidDataException($"Unknown message [{other}].");
        }
    }

    /// <summary>A reference is its path with the address of this node and the uid.</summary>
    private sealed class ReferenceConverter(RemoteActorRefProvider provider) : JsonConverter<IActorRef>
    {
        public override bool CanConvert(Type typeToConvert) => typeof(IActorRef).IsAssignableFrom(typeToConvert);

        public override IActorRef Read(ref Utf8JsonReader reader, Type typeToConvert, JsonSerializerOptions options) =>
            provider.Resolve(reader.GetString()) ?? ActorRefs.Nobody;

        public override void Write(Utf8JsonWriter writer, IActorRef value, JsonSerializerOptions options) =>
            writer.WriteStringValue(provider.Serialized(value));
    }

    /// <summary>A value declared as object goes with the name of its type, so that it comes back as what it was.</summary>
    private sealed class ObjectConverter : JsonConverter<object>
    {
        public override object Read(ref Utf8JsonReader reader, Type typeToConvert, JsonSerializerOptions options)
        {
            using var document = JsonDocument.ParseValue(ref reader);
            var root = document.RootElement;
            if (root.ValueKind == JsonValueKind.Object && root.GetPropertyCount() == 0)
            {
                return new object();
            }

            return root.GetProperty("$value").Deserialize(TypeOf(root.GetProperty("$type").GetString()), options);
        }

        public override void Write(Utf8JsonWriter writer, object value, JsonSerializerOptions options)
        {
            writer.WriteStartObject();
            if (value.GetType() != typeof(object))
            {
                // A reference comes back as whatever reference its path is there.
                writer.WriteString("$type", NameOf(value is IActorRef ? typeof(IActorRef) : value.GetType()));
                writer.WritePropertyName("$value");
                JsonSerializer.Serialize(writer, value, value is IActorRef ? typeof(IActorRef) : value.GetType(), options);
            }

            writer.WriteEndObject();
        }
    }
}

/// <summary>Stands for an exception of another node whose type cannot be made here from a message alone.</summary>
internal sealed class RemoteFailureException(string message) : AkkaException(message);
