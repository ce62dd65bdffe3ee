// The built-in modules a decoder is made of, and their factories. As in the real package only the factories are public ways to make them.
using System.Collections;
using TorchSharp.Interop;
using TorchSharp.Modules;

namespace TorchSharp
{
    public static partial class torch
    {
        public static partial class nn
        {
            public static Parameter Parameter(Tensor data, bool requires_grad = true) => new(data, requires_grad);

            /// <summary>Weight and bias are uniform within 1/sqrt(inputSize).</summary>
            public static Linear Linear(
                long inputSize, long outputSize, bool hasBias = true, Device? device = null, ScalarType? dtype = null)
            {
                using DisposeScope scope = NewDisposeScope();
                double bound = 1 / Math.Sqrt(inputSize);
                var weight = new Parameter(empty(outputSize, inputSize, dtype, device).uniform_(-bound, bound));
                Parameter? bias = hasBias ? new Parameter(empty(outputSize, dtype, device).uniform_(-bound, bound)) : null;
                return new Linear(weight, bias);
            }

            public static Linear Linear(Parameter weight, Parameter? bias = null) => new(weight, bias);

            /// <summary>Weights are standard normal; the padding row is zero.</summary>
            public static Embedding Embedding(long num_embeddings, long embedding_dims, long? padding_idx = null, double? max_norm = null,
                double norm_type = 2.0, bool scale_grad_by_freq = false, bool sparse = false, Device? device = null,
                ScalarType? dtype = null)
            {
                using DisposeScope scope = NewDisposeScope();
                Tensor values = empty(num_embeddings, embedding_dims, dtype, device).normal_();
                if (padding_idx is { } row) values[row].zero_();
                return new Embedding(new Parameter(values), padding_idx, max_norm, norm_type, scale_grad_by_freq, sparse);
            }

            public static ModuleList<T> ModuleList<T>(params T[] modules)
                where T : Module => new(modules);
        }
    }
}

namespace TorchSharp.Modules
{
    public sealed class Linear : torch.nn.Module<torch.Tensor, torch.Tensor>
    {
        internal Linear(Parameter weight, Parameter? bias)
            : base(nameof(Linear))
        {
            SetParameter("weight", weight);
            SetParameter("bias", bias);
            in_features = weight.size(1);
            out_features = weight.size(0);
        }

        public long in_features { get; set; }

        public long out_features { get; set; }

        public Parameter weight
        {
            get => FindParameter("weight")!;
            set => SetParameter("weight", value);
        }

        public Parameter? bias
        {
            get => FindParameter("bias");
            set => SetParameter("bias", value);
        }

        public override torch.Tensor forward(torch.Tensor tensor) => Ops.linear.Call(tensor, weight, bias);
    }

    public sealed class Embedding : torch.nn.Module<torch.Tensor, torch.Tensor>
    {
        private readonly long? _paddingIndex;
        private readonly double? _maxNorm;
        private readonly double _normType;
        private readonly bool _scaleByFrequency;
        private readonly bool _sparse;

        internal Embedding(Parameter weight, long? paddingIndex, double? maxNorm, double normType, bool scaleByFrequency, bool sparse)
            : base(nameof(Embedding))
        {
            SetParameter("weight", weight);
            _paddingIndex = paddingIndex;
            _maxNorm = maxNorm;
            _normType = normType;
            _scaleByFrequency = scaleByFrequency;
            _sparse = sparse;
        }

        public Parameter weight
        {
            get => FindParameter("weight")!;
            set => SetParameter("weight", value);
        }

        public override torch.Tensor forward(torch.Tensor input)
        {
            if (_maxNorm is { } limit)
            {
                using IDisposable _ = torch.no_grad();
                using torch.Tensor indices = input.contiguous();
                Ops.embedding_renorm_.Mutate(weight, weight, indices, limit, _normType);
            }
            return Ops.embedding.Call(weight, input, _paddingIndex ?? -1, _scaleByFrequency, _sparse);
        }
    }

    /// <summary>Modules named "0", "1", ...</summary>
    public class ModuleList<T> : torch.nn.Module, IList<T>
        where T : torch.nn.Module
    {
        private readonly List<T> _list = [];

        public ModuleList(params T[] modules)
            : base(nameof(ModuleList<T>)) => extend(modules);

        public int Count => _list.Count;

        public bool IsReadOnly => false;

        public T this[int index]
        {
            get => _list[index];
            set => Change(() => _list[index] = value);
        }

        public void Add(T item) => Change(() => _list.Add(item));

        public void append(params T[] parameters) => extend(parameters);

        public void extend(IEnumerable<T> modules) => Change(() => _list.AddRange(modules));

        public void Insert(int index, T item) => Change(() => _list.Insert(index, item));

        public void RemoveAt(int index) => Change(() => _list.RemoveAt(index));

        public void Clear() => Change(_list.Clear);

        public bool Remove(T item)
        {
            bool removed = false;
            Change(() => removed = _list.Remove(item));
            return removed;
        }

        public bool Contains(T item) => _list.Contains(item);

        public int IndexOf(T item) => _list.IndexOf(item);

        public void CopyTo(T[] array, int arrayIndex) => _list.CopyTo(array, arrayIndex);

        public IEnumerator<T> GetEnumerator() => _list.GetEnumerator();

        IEnumerator IEnumerable.GetEnumerator() => GetEnumerator();

        // Names are positions, so every change names all of them again.
        private void Change(Action change)
        {
            change();
            ClearChildren();
            for (int k = 0; k < _list.Count; k++) register_module(k.ToString(System.Globalization.CultureInfo.InvariantCulture), _list[k]);
        }
    }
}
