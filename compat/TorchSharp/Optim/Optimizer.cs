// torch.optim: parameter groups, state by parameter, saving and loading of state.
//
// Invariants: state is keyed by the Parameter's native handle, so build the optimizer after a module's `to`; steps run without
// gradients in a dispose scope of their own; `zero_grad` zeroes in place and leaves gradients allocated.
using TorchSharp.Modules;

namespace TorchSharp
{
    public static partial class torch
    {
        public static partial class optim
        {
            public interface ILearningRateController
            {
                double LearningRate { get; set; }

                double InitialLearningRate { get; set; }
            }

            public interface IBetas
            {
                (double, double) Betas { get; set; }
            }

            public abstract class Optimizer : IDisposable
            {
                private protected Optimizer()
                {
                }

                public virtual IEnumerable<ILearningRateController> ParamGroups => Groups;

                internal List<ParamGroup> Groups { get; } = [];

                public virtual void add_param_group(ParamGroup param_group) => throw new NotImplementedException("add_param_group");

                public virtual IEnumerable<Parameter> parameters() => Groups.SelectMany(static g => g.Parameters);

                public abstract Tensor? step(Func<Tensor>? closure = null);

                public abstract void zero_grad();

                public void Dispose()
                {
                    Dispose(true);
                    GC.SuppressFinalize(this);
                }

                protected virtual void Dispose(bool disposing)
                {
                }

                public class StateDictionary
                {
                    internal StateDictionary()
                    {
                    }

                    public List<OptimizerOptions> Options { get; } = [];

                    public List<OptimizerState> State { get; } = [];

                    /// <summary>Per parameter group the positions of its states in State.</summary>
                    public List<List<int>> StateIndexRef { get; } = [];
                }
            }
        }
    }
}

namespace TorchSharp.Modules
{
    public class ParamGroup : torch.optim.ILearningRateController
    {
        public IEnumerable<Parameter> Parameters { get; set; } = [];

        public OptimizerOptions Options { get; set; } = new();

        public double LearningRate
        {
            get => Options.LearningRate ?? 0;
            set => Options.LearningRate = value;
        }

        public double InitialLearningRate
        {
            get => Options.InitialLearningRate;
            set => Options.InitialLearningRate = value;
        }
    }

    public class ParamGroup<TOptions> : ParamGroup
        where TOptions : OptimizerOptions, new()
    {
        public ParamGroup()
        {
        }

        public ParamGroup(IEnumerable<Parameter> parameters, TOptions options)
        {
            Parameters = parameters;
            Options = options;
        }

        public new TOptions Options
        {
            get => (TOptions)base.Options;
            set => base.Options = value;
        }
    }

    public class OptimizerOptions
    {
        public double? LearningRate { get; set; }

        public double InitialLearningRate { get; set; }

        public virtual void LoadStateDict(BinaryReader reader)
        {
            InitialLearningRate = reader.ReadDouble();
            LearningRate = reader.ReadDouble();
        }

        public virtual void LoadStateDict(OptimizerOptions source)
        {
            InitialLearningRate = source.InitialLearningRate;
            LearningRate = source.LearningRate;
        }

        public virtual void SaveStateDict(BinaryWriter writer)
        {
            writer.Write(InitialLearningRate);
            writer.Write(LearningRate ?? InitialLearningRate);
        }
    }

    public abstract class OptimizerState
    {
        protected OptimizerState(Parameter parameter) => Parameter = parameter;

        protected Parameter Parameter { get; }

        public abstract void LoadStateDict(BinaryReader reader);

        public abstract void LoadStateDict(OptimizerState source);

        public abstract void SaveStateDict(BinaryWriter writer);

        public virtual void Initialize(OptimizerOptions options)
        {
        }

        public virtual void to(torch.Device device)
        {
        }

        public virtual bool ApproximatelyEquals(OptimizerState other) => false;
    }

    public abstract class OptimizerHelper : torch.optim.Optimizer
    {
        private protected Dictionary<nint, OptimizerState> States { get; } = [];

        public override void zero_grad()
        {
            foreach (Parameter p in parameters())
            {
                using torch.Tensor? g = p.grad;
                g?.zero_();
            }
        }

        public void to(torch.Device device)
        {
            foreach (OptimizerState s in States.Values) s.to(device);
        }

        /// <summary>The live options and states, in order of groups and parameters.</summary>
        public virtual StateDictionary state_dict()
        {
            var dict = new StateDictionary();
            foreach (ParamGroup g in Groups)
            {
                dict.Options.Add(g.Options);
                var positions = new List<int>();
                foreach (Parameter p in g.Parameters)
                {
                    positions.Add(dict.State.Count);
                    dict.State.Add(States[p.Handle]);
                }
                dict.StateIndexRef.Add(positions);
            }
            return dict;
        }

        public virtual void load_state_dict(StateDictionary state_dict)
        {
            StateDictionary own = this.state_dict();
            CheckCounts(state_dict.Options.Count, state_dict.State.Count, own);
            for (int k = 0; k < own.Options.Count; k++)
            {
                if (own.Options[k] != state_dict.Options[k]) own.Options[k].LoadStateDict(state_dict.Options[k]);
            }
            for (int k = 0; k < own.State.Count; k++)
            {
                if (own.State[k] != state_dict.State[k]) own.State[k].LoadStateDict(state_dict.State[k]);
            }
        }

        public void save_state_dict(string location)
        {
            using var writer = new BinaryWriter(File.Create(location));
            save_state_dict(writer);
        }

        public void save_state_dict(BinaryWriter writer)
        {
            StateDictionary own = state_dict();
            writer.Write(GetType().Name);
            writer.Write7BitEncodedInt64(own.Options.Count);
            writer.Write7BitEncodedInt64(own.State.Count);
            foreach (OptimizerOptions o in own.Options) o.SaveStateDict(writer);
            foreach (OptimizerState s in own.State) s.SaveStateDict(writer);
        }

        public void load_state_dict(string location)
        {
            using var reader = new BinaryReader(File.OpenRead(location));
            load_state_dict(reader);
        }

        public void load_state_dict(BinaryReader reader)
        {
            string name = reader.ReadString();
            if (name != GetType().Name)
            {
                throw new InvalidDataException(
                    $"Mismatched optimizer type: expected '{GetType().Name}', but found '{name}' in the loaded stream.");
            }
            StateDictionary own = state_dict();
            CheckCounts(reader.Read7BitEncodedInt64(), reader.Read7BitEncodedInt64(), own);
            foreach (OptimizerOptions o in own.Options) o.LoadStateDict(reader);
            foreach (OptimizerState s in own.State) s.LoadStateDict(reader);
        }

        private static void CheckCounts(long options, long states, StateDictionary own)
        {
            string? differs = options != own.Options.Count ? "parameter groups" : states != own.State.Count ? "states" : null;
            if (differs is not null) throw new ArgumentException($"Invalid optimizer state -- different number of {differs}.");
        }
    }
}
