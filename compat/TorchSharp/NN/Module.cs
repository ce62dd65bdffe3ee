// nn.Module: named parameters, buffers and submodules.
//
// Invariants:
//  - RegisterComponents finds components by reflection over the fields that the type sees (private fields of base classes are not among
//    them): modules, parameters, and any other tensor as a persistent buffer. A name already registered is left alone.
//  - state_dict holds the live tensors; named_parameters lists each native tensor once, named first come first served.
//  - `to` replaces a Parameter whose dtype or device changes, in the registry and in the field that holds it, and disposes the old one.
using System.Reflection;
using TorchSharp.Modules;

namespace TorchSharp.Utils
{
    /// <summary>Another name for a field that RegisterComponents finds.</summary>
    [AttributeUsage(AttributeTargets.Field | AttributeTargets.Property)]
    public sealed class ComponentNameAttribute : Attribute
    {
        public string? Name { get; set; }
    }
}

namespace TorchSharp
{
    public static partial class torch
    {
        public static partial class nn
        {
            public class Module : IDisposable
            {
                private readonly List<(string Name, Module Module)> _children = [];
                private readonly List<(string Name, Parameter Parameter)> _parameters = [];
                private readonly List<(string Name, Tensor Buffer, bool Persistent)> _buffers = [];
                private readonly string? _name;
                private bool _registered;
                private bool _disposed;

                protected Module(string? name) => _name = name;

                public bool training { get; private set; } = true;

                public virtual string GetName() => _name ?? GetType().Name;

                public virtual void train(bool train = true)
                {
                    training = train;
                    foreach ((string _, Module m) in _children) m.train(train);
                }

                public virtual void eval() => train(false);

                public virtual IEnumerable<(string name, Module module)> named_children() => _children.Select(c => (c.Name, c.Module));

                public virtual IEnumerable<Module> children() => _children.Select(c => c.Module);

                public virtual IEnumerable<(string name, Module module)> named_modules()
                {
                    foreach ((string childName, Module child) in _children)
                    {
                        yield return (childName, child);
                        foreach ((string n, Module m) in child.named_modules()) yield return ($"{childName}.{n}", m);
                    }
                }

                public virtual IEnumerable<Module> modules() => named_modules().Select(m => m.module);

                public virtual Module apply(Action<Module> fn)
                {
                    foreach ((string _, Module m) in _children) m.apply(fn);
                    fn(this);
                    return this;
                }

                public virtual IEnumerable<(string name, Parameter parameter)> named_parameters(bool recurse = true)
                {
                    var seen = new HashSet<nint>();
                    foreach ((string n, Parameter p) in _parameters)
                    {
                        if (seen.Add(p.Handle)) yield return (n, p);
                    }
                    if (!recurse) yield break;
                    foreach ((string childName, Module child) in _children)
                    {
                        foreach ((string n, Parameter p) in child.named_parameters())
                        {
                            if (seen.Add(p.Handle)) yield return ($"{childName}.{n}", p);
                        }
                    }
                }

                public virtual IEnumerable<Parameter> parameters(bool recurse = true) => named_parameters(recurse).Select(p => p.parameter);

                public virtual IEnumerable<(string name, Tensor buffer)> named_buffers(
                    bool recurse = true, bool include_nonpersistent = true)
                {
                    foreach ((string n, Tensor b, bool persistent) in _buffers)
                    {
                        if (persistent) yield return (n, b);
                    }
                    if (!recurse) yield break;
                    foreach ((string childName, Module child) in _children)
                    {
                        foreach ((string n, Tensor b) in child.named_buffers(true, include_nonpersistent))
                        {
                            yield return ($"{childName}.{n}", b);
                        }
                    }
                }

                public virtual IEnumerable<Tensor> buffers(bool recurse = true, bool include_nonpersistent = true) =>
                    named_buffers(recurse, include_nonpersistent).Select(b => b.buffer);

                public virtual bool has_parameter(string target) => named_parameters().Any(p => p.name == target);

                public virtual Parameter? get_parameter(string target) =>
                    named_parameters().FirstOrDefault(p => p.name == target).parameter;

                public virtual bool has_buffer(string target) => named_buffers().Any(b => b.name == target);

                public virtual Tensor? get_buffer(string target) => named_buffers().FirstOrDefault(b => b.name == target).buffer;

                public virtual void register_parameter(string name, Parameter param)
                {
                    CheckName(name);
                    if (param is not null) _parameters.Add((name, param));
                }

                public virtual void register_buffer(string name, Tensor tensor, bool persistent = true)
                {
                    CheckName(name);
                    if (tensor is not null) _buffers.Add((name, tensor, persistent));
                }

                public virtual void register_module(string name, Module submodule)
                {
                    CheckName(name);
                    if (submodule is null) return;
                    submodule.RegisterComponents();
                    _children.Add((name, submodule));
                }

                public void add_module(string name, Module module) => register_module(name, module);

                public virtual void zero_grad(bool set_to_none = true)
                {
                    foreach (Parameter p in parameters())
                    {
                        using Tensor? g = p.grad;
                        if (g is null) continue;
                        if (set_to_none) p.grad = null;
                        else g.zero_();
                    }
                }

                public virtual Dictionary<string, Tensor> state_dict(Dictionary<string, Tensor>? destination = null, string? prefix = null)
                {
                    destination ??= [];
                    string Path(string n) => string.IsNullOrEmpty(prefix) ? n : $"{prefix}.{n}";
                    foreach ((string n, Parameter p) in _parameters) destination.TryAdd(Path(n), p);
                    foreach ((string n, Tensor b, bool persistent) in _buffers)
                    {
                        if (persistent) destination.TryAdd(Path(n), b);
                    }
                    foreach ((string n, Module m) in _children) m.state_dict(destination, Path(n));
                    return destination;
                }

                public virtual (IList<string> missing_keys, IList<string> unexpected_keyes) load_state_dict(
                    Dictionary<string, Tensor> source, bool strict = true, IList<string>? skip = null)
                {
                    Dictionary<string, Tensor> own = state_dict();
                    bool Skipped(string key) => skip is not null && skip.Contains(key);
                    List<string> missing = [.. own.Keys.Where(k => !source.ContainsKey(k) && !Skipped(k))];
                    List<string> unexpected = [.. source.Keys.Where(k => !own.ContainsKey(k) && !Skipped(k))];
                    if (strict && (missing.Count > 0 || unexpected.Count > 0))
                    {
                        throw new InvalidOperationException("The loaded state_dict is not identical to the target dictionary.");
                    }
                    using IDisposable _ = no_grad();
                    foreach ((string key, Tensor value) in source)
                    {
                        if (own.TryGetValue(key, out Tensor? target) && !Skipped(key)) target.copy_(value);
                    }
                    return (missing, unexpected);
                }

                public void Dispose()
                {
                    Dispose(true);
                    GC.SuppressFinalize(this);
                }

                protected virtual void Dispose(bool disposing)
                {
                    if (!disposing || _disposed) return;
                    _disposed = true;
                    foreach ((string _, Parameter p) in _parameters) p.Dispose();
                    foreach ((string _, Tensor b, bool _) in _buffers) b.Dispose();
                    foreach ((string _, Module m) in _children) m.Dispose();
                }

                protected virtual void RegisterComponents()
                {
                    if (_registered) return;
                    _registered = true;
                    foreach (FieldInfo field in InstanceFields())
                    {
                        string fieldName = field.GetCustomAttribute<Utils.ComponentNameAttribute>()?.Name ?? field.Name;
                        if (IsRegistered(fieldName)) continue;
                        switch (field.GetValue(this))
                        {
                            case Module m:
                                register_module(fieldName, m);
                                break;
                            case Parameter p:
                                register_parameter(fieldName, p);
                                break;
                            case Tensor t:
                                register_buffer(fieldName, t);
                                break;
                        }
                    }
                }

                /// <summary>Puts a new parameter under a name, replacing what was there.</summary>
                internal void SetParameter(string name, Parameter? value)
                {
                    int at = _parameters.FindIndex(p => p.Name == name);
                    value?.DetachFromDisposeScope();
                    if (at < 0)
                    {
                        if (value is not null) _parameters.Add((name, value));
                    }
                    else if (value is null)
                    {
                        _parameters.RemoveAt(at);
                    }
                    else
                    {
                        _parameters[at] = (name, value);
                    }
                }

                internal Parameter? FindParameter(string name) => _parameters.Find(p => p.Name == name).Parameter;

                internal void ClearChildren() => _children.Clear();

                /// <summary>Converts parameters and buffers here and below; only floating-point ones change their dtype.</summary>
                internal void Convert(Device? device, ScalarType? dtype, bool nonBlocking)
                {
                    foreach ((string _, Module m) in _children) m.Convert(device, dtype, nonBlocking);
                    using IDisposable _ = no_grad();
                    for (int k = 0; k < _parameters.Count; k++)
                    {
                        (string n, Parameter old) = _parameters[k];
                        if (Moved(old, device, dtype, nonBlocking) is not { } moved) continue;
                        var replacement = (Parameter)new Parameter(moved, old.requires_grad).DetachFromDisposeScope();
                        using (Tensor? g = old.grad)
                        {
                            if (g is not null)
                            {
                                using Tensor movedGrad = Moved(g, device, dtype, nonBlocking) ?? g.alias();
                                replacement.grad = movedGrad;
                            }
                        }
                        _parameters[k] = (n, replacement);
                        ReplaceInFields(old, replacement);
                        old.Dispose();
                    }
                    for (int k = 0; k < _buffers.Count; k++)
                    {
                        (string n, Tensor old, bool persistent) = _buffers[k];
                        if (Moved(old, device, dtype, nonBlocking) is not { } moved) continue;
                        moved.DetachFromDisposeScope();
                        _buffers[k] = (n, moved, persistent);
                        ReplaceInFields(old, moved);
                        old.Dispose();
                    }
                }

                private static Tensor? Moved(Tensor t, Device? device, ScalarType? dtype, bool nonBlocking)
                {
                    ScalarType type = dtype is { } wanted && is_floating_point(t.dtype) ? wanted : t.dtype;
                    Device target = device ?? t.device;
                    return type == t.dtype && target.Equals(t.device) ? null : t.to(type, target, non_blocking: nonBlocking);
                }

                private void ReplaceInFields(Tensor old, Tensor replacement)
                {
                    foreach (FieldInfo field in InstanceFields())
                    {
                        if (typeof(Tensor).IsAssignableFrom(field.FieldType) && ReferenceEquals(field.GetValue(this), old))
                        {
                            field.SetValue(this, replacement);
                        }
                    }
                }

                private FieldInfo[] InstanceFields() =>
                    GetType().GetFields(BindingFlags.Instance | BindingFlags.Public | BindingFlags.NonPublic);

                private bool IsRegistered(string name) => _parameters.Exists(p => p.Name == name)
                    || _buffers.Exists(b => b.Name == name) || _children.Exists(c => c.Name == name);

                private void CheckName(string name)
                {
                    if (string.IsNullOrEmpty(name)) throw new ArgumentNullException(nameof(name));
                    if (name.Contains('.', StringComparison.Ordinal))
                    {
                        throw new ArgumentException($"The name {name} must not hold a dot.", nameof(name));
                    }
                    if (IsRegistered(name)) throw new InvalidOperationException($"The name {name} is already registered.");
                }
            }

            /// <summary>A module of one input.</summary>
            public abstract class Module<T, TResult> : Module
            {
                protected Module(string name)
                    : base(name)
                {
                }

                public abstract TResult forward(T input);

                public TResult call(T input) => forward(input);
            }

            /// <summary>A module of two inputs.</summary>
            public abstract class Module<T1, T2, TResult> : Module
            {
                protected Module(string name)
                    : base(name)
                {
                }

                public abstract TResult forward(T1 input1, T2 input2);

                public TResult call(T1 input1, T2 input2) => forward(input1, input2);
            }

            /// <summary>A module of three inputs.</summary>
            public abstract class Module<T1, T2, T3, TResult> : Module
            {
                protected Module(string name)
                    : base(name)
                {
                }

                public abstract TResult forward(T1 input1, T2 input2, T3 input3);

                public TResult call(T1 input1, T2 input2, T3 input3) => forward(input1, input2, input3);
            }
        }
    }

    /// <summary>Conversions of modules; they return the module itself.</summary>
    public static class ModuleExtensionMethods
    {
        public static T to<T>(this T module, torch.ScalarType type, bool non_blocking = false)
            where T : torch.nn.Module => Converted(module, null, type, non_blocking);

        public static T to<T>(this T module, torch.Device device, torch.ScalarType type, bool non_blocking = false)
            where T : torch.nn.Module => Converted(module, device, type, non_blocking);

        public static T to<T>(this T module, torch.Device device, bool non_blocking = false)
            where T : torch.nn.Module => Converted(module, device, null, non_blocking);

        public static T to<T>(this T module, DeviceType deviceType, int deviceIndex = -1, bool non_blocking = false)
            where T : torch.nn.Module => Converted(module, new torch.Device(deviceType, deviceIndex), null, non_blocking);

        public static T to<T>(this T module, string device, bool non_blocking = false)
            where T : torch.nn.Module => Converted(module, new torch.Device(device), null, non_blocking);

        public static T cpu<T>(this T module, bool non_blocking = false)
            where T : torch.nn.Module => Converted(module, torch.CPU, null, non_blocking);

        public static T cuda<T>(this T module, int deviceIndex = -1, bool non_blocking = false)
            where T : torch.nn.Module => Converted(module, new torch.Device(DeviceType.CUDA, deviceIndex), null, non_blocking);

        public static T bfloat16<T>(this T module, bool non_blocking = false)
            where T : torch.nn.Module => Converted(module, null, torch.ScalarType.BFloat16, non_blocking);

        public static T @float<T>(this T module, bool non_blocking = false)
            where T : torch.nn.Module => Converted(module, null, torch.ScalarType.Float32, non_blocking);

        public static T @double<T>(this T module, bool non_blocking = false)
            where T : torch.nn.Module => Converted(module, null, torch.ScalarType.Float64, non_blocking);

        private static T Converted<T>(T module, torch.Device? device, torch.ScalarType? type, bool nonBlocking)
            where T : torch.nn.Module
        {
            module.Convert(device, type, nonBlocking);
            return module;
        }
    }
}
