// Operators and conversions. `==` is elementwise: write `t is null`, never `t == null`.
using TorchSharp.Interop;

namespace TorchSharp;

#pragma warning disable CS0660, CS0661 // Equals and GetHashCode are in Tensor.cs, with their own meaning

public static partial class torch
{
    public partial class Tensor
    {
        public static Tensor operator +(Tensor left, Tensor right) => Ops.add.Call(left, right);

        public static Tensor operator +(Tensor left, Scalar right) => Ops.add.Call(left, right);

        public static Tensor operator +(Tensor left, int right) => Ops.add.Call(left, right);

        public static Tensor operator +(Tensor left, long right) => Ops.add.Call(left, right);

        public static Tensor operator +(Tensor left, float right) => Ops.add.Call(left, (double)right);

        public static Tensor operator +(Tensor left, double right) => Ops.add.Call(left, right);

        public static Tensor operator +(Scalar left, Tensor right) => Ops.add.Call(left, right);

        public static Tensor operator +(int left, Tensor right) => Ops.add.Call(left, right);

        public static Tensor operator +(long left, Tensor right) => Ops.add.Call(left, right);

        public static Tensor operator +(float left, Tensor right) => Ops.add.Call((double)left, right);

        public static Tensor operator +(double left, Tensor right) => Ops.add.Call(left, right);

        public static Tensor operator -(Tensor left, Tensor right) => Ops.sub.Call(left, right);

        public static Tensor operator -(Tensor left, Scalar right) => Ops.sub.Call(left, right);

        public static Tensor operator -(Tensor left, int right) => Ops.sub.Call(left, right);

        public static Tensor operator -(Tensor left, long right) => Ops.sub.Call(left, right);

        public static Tensor operator -(Tensor left, float right) => Ops.sub.Call(left, (double)right);

        public static Tensor operator -(Tensor left, double right) => Ops.sub.Call(left, right);

        public static Tensor operator -(Scalar left, Tensor right) => Ops.sub.Call(left, right);

        public static Tensor operator -(int left, Tensor right) => Ops.sub.Call(left, right);

        public static Tensor operator -(long left, Tensor right) => Ops.sub.Call(left, right);

        public static Tensor operator -(float left, Tensor right) => Ops.sub.Call((double)left, right);

        public static Tensor operator -(double left, Tensor right) => Ops.sub.Call(left, right);

        public static Tensor operator *(Tensor left, Tensor right) => Ops.mul.Call(left, right);

        public static Tensor operator *(Tensor left, Scalar right) => Ops.mul.Call(left, right);

        public static Tensor operator *(Tensor left, int right) => Ops.mul.Call(left, right);

        public static Tensor operator *(Tensor left, long right) => Ops.mul.Call(left, right);

        public static Tensor operator *(Tensor left, float right) => Ops.mul.Call(left, (double)right);

        public static Tensor operator *(Tensor left, double right) => Ops.mul.Call(left, right);

        public static Tensor operator *(Scalar left, Tensor right) => Ops.mul.Call(left, right);

        public static Tensor operator *(int left, Tensor right) => Ops.mul.Call(left, right);

        public static Tensor operator *(long left, Tensor right) => Ops.mul.Call(left, right);

        public static Tensor operator *(float left, Tensor right) => Ops.mul.Call((double)left, right);

        public static Tensor operator *(double left, Tensor right) => Ops.mul.Call(left, right);

        public static Tensor operator /(Tensor left, Tensor right) => Ops.div.Call(left, right);

        public static Tensor operator /(Tensor left, Scalar right) => Ops.div.Call(left, right);

        public static Tensor operator /(Tensor left, int right) => Ops.div.Call(left, right);

        public static Tensor operator /(Tensor left, long right) => Ops.div.Call(left, right);

        public static Tensor operator /(Tensor left, float right) => Ops.div.Call(left, (double)right);

        public static Tensor operator /(Tensor left, double right) => Ops.div.Call(left, right);

        public static Tensor operator /(Scalar left, Tensor right) => Ops.div.Call(left, right);

        public static Tensor operator /(int left, Tensor right) => Ops.div.Call(left, right);

        public static Tensor operator /(long left, Tensor right) => Ops.div.Call(left, right);

        public static Tensor operator /(float left, Tensor right) => Ops.div.Call((double)left, right);

        public static Tensor operator /(double left, Tensor right) => Ops.div.Call(left, right);

        public static Tensor operator %(Tensor left, Tensor right) => Ops.remainder.Call(left, right);

        public static Tensor operator %(Tensor left, Scalar right) => Ops.remainder.Call(left, right);

        public static Tensor operator %(Tensor left, int right) => Ops.remainder.Call(left, right);

        public static Tensor operator %(Tensor left, long right) => Ops.remainder.Call(left, right);

        public static Tensor operator %(Tensor left, float right) => Ops.remainder.Call(left, (double)right);

        public static Tensor operator %(Tensor left, double right) => Ops.remainder.Call(left, right);

        public static Tensor operator ==(Tensor left, Tensor right) => Ops.eq.Call(left, right);

        public static Tensor operator ==(Tensor left, Scalar right) => Ops.eq.Call(left, right);

        public static Tensor operator ==(Scalar left, Tensor right) => Ops.eq.Call(right, left);

        public static Tensor operator !=(Tensor left, Tensor right) => Ops.ne.Call(left, right);

        public static Tensor operator !=(Tensor left, Scalar right) => Ops.ne.Call(left, right);

        public static Tensor operator !=(Scalar left, Tensor right) => Ops.ne.Call(right, left);

        public static Tensor operator <(Tensor left, Tensor right) => Ops.lt.Call(left, right);

        public static Tensor operator <(Tensor left, Scalar right) => Ops.lt.Call(left, right);

        public static Tensor operator <(Scalar left, Tensor right) => Ops.gt.Call(right, left);

        public static Tensor operator <=(Tensor left, Tensor right) => Ops.le.Call(left, right);

        public static Tensor operator <=(Tensor left, Scalar right) => Ops.le.Call(left, right);

        public static Tensor operator <=(Scalar left, Tensor right) => Ops.ge.Call(right, left);

        public static Tensor operator >(Tensor left, Tensor right) => Ops.gt.Call(left, right);

        public static Tensor operator >(Tensor left, Scalar right) => Ops.gt.Call(left, right);

        public static Tensor operator >(Scalar left, Tensor right) => Ops.lt.Call(right, left);

        public static Tensor operator >=(Tensor left, Tensor right) => Ops.ge.Call(left, right);

        public static Tensor operator >=(Tensor left, Scalar right) => Ops.ge.Call(left, right);

        public static Tensor operator >=(Scalar left, Tensor right) => Ops.le.Call(right, left);

        public static Tensor operator -(Tensor tensor) => tensor.neg();

        public static Tensor operator ~(Tensor left) => left.bitwise_not();

        public static Tensor operator &(Tensor left, Tensor right) => left.bitwise_and(right);

        public static Tensor operator |(Tensor left, Tensor right) => left.bitwise_or(right);

        public static Tensor operator ^(Tensor left, Tensor right) => left.bitwise_xor(right);

        public static explicit operator float(Tensor value) => value.ToSingle();

        public static explicit operator double(Tensor value) => value.ToDouble();

        public static explicit operator int(Tensor value) => value.ToInt32();

        public static explicit operator long(Tensor value) => value.ToInt64();

        public static explicit operator bool(Tensor value) => value.ToBoolean();

        public static implicit operator Tensor(int value) => tensor(value);

        public static implicit operator Tensor(long value) => tensor(value);

        public static implicit operator Tensor(float value) => tensor(value);

        public static implicit operator Tensor(double value) => tensor(value);

        public static implicit operator Tensor(bool value) => tensor(value);

        public static implicit operator Tensor(byte value) => tensor(value);

        public static implicit operator Tensor(sbyte value) => tensor(value);

        public static implicit operator Tensor(short value) => tensor(value);

        public static implicit operator Tensor(byte[] value) => tensor(value);

        public static implicit operator Tensor(sbyte[] value) => tensor(value);

        public static implicit operator Tensor(short[] value) => tensor(value);

        public static implicit operator Tensor(int[] value) => tensor(value);

        public static implicit operator Tensor(long[] value) => tensor(value);

        public static implicit operator Tensor(float[] value) => tensor(value);

        public static implicit operator Tensor(double[] value) => tensor(value);

        public static implicit operator Tensor(bool[] value) => tensor(value);

        public static implicit operator Tensor(Scalar scalar) => full(Array.Empty<long>(), scalar, scalar.Type);
    }
}
