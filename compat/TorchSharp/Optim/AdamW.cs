// AdamW (Loshchilov and Hutter, "Decoupled Weight Decay Regularization"), with the real package's options and defaults:
//   p <- p (1 - lr wd);  m <- b1 m + (1 - b1) g;  v <- b2 v + (1 - b2) g^2;
//   p <- p - lr / (1 - b1^t) * m / (sqrt(v) / sqrt(1 - b2^t) + eps)
// A parameter without a gradient is skipped, and its step does not advance.
using TorchSharp.Modules;

namespace TorchSharp
{
    public static partial class torch
    {
        public static partial class optim
        {
            public static AdamW AdamW(IEnumerable<Parameter> parameters, double lr = 0.001, double beta1 = 0.9, double beta2 = 0.999,
                double eps = 1e-8, double weight_decay = 0, bool amsgrad = false, bool maximize = false) =>
                new(parameters, lr, beta1, beta2, eps, weight_decay, amsgrad, maximize);

            public static AdamW AdamW(IEnumerable<(string name, Parameter parameter)> parameters, double lr = 0.001, double beta1 = 0.9,
                double beta2 = 0.999, double eps = 1e-8, double weight_decay = 0, bool amsgrad = false, bool maximize = false) =>
                new(parameters.Select(static p => p.parameter), lr, beta1, beta2, eps, weight_decay, amsgrad, maximize);

            public static AdamW AdamW(IEnumerable<AdamW.ParamGroup> parameters, double lr = 0.001, double beta1 = 0.9, double beta2 = 0.999,
                double eps = 1e-8, double weight_decay = 0, bool amsgrad = false, bool maximize = false) =>
                new(parameters, lr, beta1, beta2, eps, weight_decay, amsgrad, maximize);
        }
    }
}

namespace TorchSharp.Modules
{
    public class AdamW : OptimizerHelper, torch.optim.IBetas
    {
        private readonly Options _defaults;

        public AdamW(IEnumerable<Parameter> parameters, double lr = 0.001, double beta1 = 0.9, double beta2 = 0.999, double eps = 1e-8,
            double weight_decay = 0, bool amsgrad = false, bool maximize = false)
            : this([new ParamGroup { Parameters = parameters }], lr, beta1, beta2, eps, weight_decay, amsgrad, maximize)
        {
        }

        public AdamW(IEnumerable<ParamGroup> parameters, double lr = 0.001, double beta1 = 0.9, double beta2 = 0.999, double eps = 1e-8,
            double weight_decay = 0, bool amsgrad = false, bool maximize = false)
        {
            if (lr < 0) throw new ArgumentException($"Invalid learning rate: {lr}");
            if (beta1 is < 0 or >= 1) throw new ArgumentException($"Invalid beta1 value: {beta1}");
            if (beta2 is < 0 or >= 1) throw new ArgumentException($"Invalid beta2 value: {beta2}");
            if (eps < 0) throw new ArgumentException($"Invalid eps value: {eps}");
            if (weight_decay < 0) throw new ArgumentException($"Invalid weight_decay value: {weight_decay}");
            _defaults = new Options
            {
                LearningRate = lr,
                InitialLearningRate = lr,
                beta1 = beta1,
                beta2 = beta2,
                eps = eps,
                weight_decay = weight_decay,
                amsgrad = amsgrad,
                maximize = maximize,
            };
            foreach (ParamGroup g in parameters) add_param_group(g);
        }

        /// <summary>Of the first group; setting changes every group.</summary>
        public (double, double) Betas
        {
            get => ((ParamGroup)Groups[0]).Betas;
            set
            {
                foreach (ParamGroup g in Groups.Cast<ParamGroup>()) g.Betas = value;
            }
        }

        public override void add_param_group(Modules.ParamGroup param_group)
        {
            var group = (ParamGroup)param_group;
            Options o = group.Options;
            o.LearningRate ??= _defaults.LearningRate;
            o.InitialLearningRate = o.LearningRate!.Value;
            o.beta1 ??= _defaults.beta1;
            o.beta2 ??= _defaults.beta2;
            o.eps ??= _defaults.eps;
            o.weight_decay ??= _defaults.weight_decay;
            o.amsgrad ??= _defaults.amsgrad;
            o.maximize ??= _defaults.maximize;
            group.Parameters = [.. group.Parameters];
            Groups.Add(group);
            foreach (Parameter p in group.Parameters)
            {
                var state = new State(p);
                state.Initialize(o);
                States[p.Handle] = state;
            }
        }

        public override torch.Tensor? step(Func<torch.Tensor>? closure = null)
        {
            torch.Tensor? loss = null;
            if (closure is not null)
            {
                using IDisposable grad = torch.enable_grad();
                loss = closure();
            }
            using IDisposable quiet = torch.no_grad();
            foreach (ParamGroup g in Groups.Cast<ParamGroup>())
            {
                foreach (Parameter p in g.Parameters)
                {
                    using DisposeScope scope = torch.NewDisposeScope();
                    if (p.grad is { } gradient) Update(p, gradient, g.Options, (State)States[p.Handle]);
                }
            }
            return loss;
        }

        protected override void Dispose(bool disposing)
        {
            base.Dispose(disposing);
            if (!disposing) return;
            foreach (State s in States.Values.Cast<State>()) s.Dispose();
            States.Clear();
        }

        private static void Update(Parameter p, torch.Tensor gradient, Options o, State s)
        {
            double lr = o.LearningRate!.Value;
            double b1 = o.beta1!.Value;
            double b2 = o.beta2!.Value;
            double wd = o.weight_decay!.Value;
            torch.Tensor g = o.maximize!.Value ? -gradient : gradient;
            s.step++;
            if (wd != 0) p.mul_(1 - (lr * wd));
            s.exp_avg.mul_(b1).add_(g, alpha: 1 - b1);
            s.exp_avg_sq.mul_(b2).addcmul_(g, g, value: 1 - b2);
            double correction1 = 1 - Math.Pow(b1, s.step);
            double correction2 = 1 - Math.Pow(b2, s.step);
            torch.Tensor second = s.exp_avg_sq;
            if (o.amsgrad!.Value)
            {
                using torch.Tensor largest = torch.maximum(s.max_exp_avg_sq!, s.exp_avg_sq);
                s.max_exp_avg_sq!.copy_(largest);
                second = s.max_exp_avg_sq;
            }
            torch.Tensor denominator = second.sqrt().div_(Math.Sqrt(correction2)).add_(o.eps!.Value);
            p.addcdiv_(s.exp_avg, denominator, value: -lr / correction1);
        }

        public class Options : OptimizerOptions
        {
            public double? beta1;
            public double? beta2;
            public double? weight_decay;
            public double? eps;
            public bool? amsgrad;
            public bool? maximize;

            public override void LoadStateDict(OptimizerOptions source)
            {
                base.LoadStateDict(source);
                if (source is not Options o) throw new ArgumentException("The options are not those of AdamW.", nameof(source));
                (beta1, beta2, weight_decay, eps, amsgrad, maximize) = (o.beta1, o.beta2, o.weight_decay, o.eps, o.amsgrad, o.maximize);
            }

            public override void LoadStateDict(BinaryReader reader)
            {
                base.LoadStateDict(reader);
                beta1 = reader.ReadDouble();
                beta2 = reader.ReadDouble();
                eps = reader.ReadDouble();
                weight_decay = reader.ReadDouble();
                amsgrad = reader.ReadBoolean();
                maximize = reader.ReadBoolean();
            }

            public override void SaveStateDict(BinaryWriter writer)
            {
                base.SaveStateDict(writer);
                writer.Write(beta1!.Value);
                writer.Write(beta2!.Value);
                writer.Write(eps!.Value);
                writer.Write(weight_decay!.Value);
                writer.Write(amsgrad!.Value);
                writer.Write(maximize!.Value);
            }
        }

        public class ParamGroup : ParamGroup<Options>, torch.optim.IBetas
        {
            public ParamGroup()
                : base([], new Options())
            {
            }

            public ParamGroup(IEnumerable<Parameter> parameters, Options options)
                : base(parameters, options)
            {
            }

            public ParamGroup(IEnumerable<Parameter> parameters, double lr = 0.001, double beta1 = 0.9, double beta2 = 0.999,
                double eps = 1e-8, double weight_decay = 0, bool amsgrad = false, bool maximize = false)
                : base(parameters, new Options
                {
                    LearningRate = lr,
                    beta1 = beta1,
                    beta2 = beta2,
                    eps = eps,
                    weight_decay = weight_decay,
                    amsgrad = amsgrad,
                    maximize = maximize,
                })
            {
            }

            public (double, double) Betas
            {
                get => (Options.beta1!.Value, Options.beta2!.Value);
                set => (Options.beta1, Options.beta2) = (value.Item1, value.Item2);
            }
        }

        public sealed class State : OptimizerState, IDisposable
        {
            public long step;
            public torch.Tensor exp_avg = null!; // both set by Initialize, which the optimizer calls at once
            public torch.Tensor exp_avg_sq = null!;
            public torch.Tensor? max_exp_avg_sq;

            public State(Parameter parameter)
                : base(parameter)
            {
            }

            public override void Initialize(OptimizerOptions options)
            {
                step = 0;
                exp_avg = torch.zeros_like(Parameter).DetachFromDisposeScope();
                exp_avg_sq = torch.zeros_like(Parameter).DetachFromDisposeScope();
                if (((Options)options).amsgrad == true) max_exp_avg_sq = torch.zeros_like(Parameter).DetachFromDisposeScope();
            }

            public override void to(torch.Device device)
            {
                exp_avg = Moved(exp_avg, device);
                exp_avg_sq = Moved(exp_avg_sq, device);
                if (max_exp_avg_sq is not null) max_exp_avg_sq = Moved(max_exp_avg_sq, device);
            }

            public override void LoadStateDict(OptimizerState source)
            {
                if (source is not State other) throw new ArgumentException("The state is not that of AdamW.", nameof(source));
                using IDisposable _ = torch.no_grad();
                step = other.step;
                exp_avg.copy_(other.exp_avg);
                exp_avg_sq.copy_(other.exp_avg_sq);
                if (other.max_exp_avg_sq is null) return;
                max_exp_avg_sq ??= torch.zeros_like(Parameter).DetachFromDisposeScope();
                max_exp_avg_sq.copy_(other.max_exp_avg_sq);
            }

            public override void LoadStateDict(BinaryReader reader)
            {
                step = reader.ReadInt64();
                exp_avg.Load(reader);
                exp_avg_sq.Load(reader);
                if (!reader.ReadBoolean()) return;
                max_exp_avg_sq ??= torch.zeros_like(Parameter).DetachFromDisposeScope();
                max_exp_avg_sq.Load(reader);
            }

            public override void SaveStateDict(BinaryWriter writer)
            {
                writer.Write(step);
                exp_avg.Save(writer);
                exp_avg_sq.Save(writer);
                writer.Write(max_exp_avg_sq is not null);
                max_exp_avg_sq?.Save(writer);
            }

            public override bool ApproximatelyEquals(OptimizerState other) => other is State s && step == s.step
                && exp_avg.allclose(s.exp_avg) && exp_avg_sq.allclose(s.exp_avg_sq);

            public void Dispose()
            {
                exp_avg?.Dispose();
                exp_avg_sq?.Dispose();
                max_exp_avg_sq?.Dispose();
            }

            private static torch.Tensor Moved(torch.Tensor t, torch.Device device)
            {
                using (t) return t.to(device).DetachFromDisposeScope();
            }
        }
    }
}
