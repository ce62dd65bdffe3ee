using Mem1.Model;

namespace Mem1.Learner.Tests;

public sealed class ValueHeadTests
{
    [Fact]
    public void A_value_head_is_made_once_and_kept()
    {
        var bare = new ModelWeights(new SortedDictionary<string, WeightTensor>(StringComparer.Ordinal) { ["x"] = new([1], [1]) });
        var made = ValueHead.Ensure(bare, 4, seed: 1);
        Assert.Equal(5, made.Tensors.Count);
        Assert.Same(made, ValueHead.Ensure(made, 4, seed: 2));
    }

    [Theory]
    [InlineData("value_head.fc2.bias", null)]
    [InlineData("value_head.fc1.weight", 8)]
    [InlineData("value_head.other", 8)]
    public void A_value_head_of_another_make_is_refused(string name, int? size)
    {
        var empty = new ModelWeights(new SortedDictionary<string, WeightTensor>(StringComparer.Ordinal));
        var tensors = new SortedDictionary<string, WeightTensor>(ValueHead.Ensure(empty, 4, seed: 1).Tensors.ToDictionary(), StringComparer.Ordinal);
        if (size is { } n) tensors[name] = new WeightTensor([n], new float[n]);
        else tensors.Remove(name);
        var refused = Assert.Throws<LearnerException>(() => ValueHead.Ensure(new ModelWeights(tensors), 4, seed: 1));
        Assert.Contains(name, refused.Message, StringComparison.Ordinal);
    }
}
