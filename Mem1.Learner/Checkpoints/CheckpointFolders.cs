// Keeps:
//  * a folder NAME-N is there whole or not at all: its files are written aside, flushed and hashed, then the folder is renamed into place
//    and the rename is flushed; whatever is removed is removed after that;
//  * replacing NAME-N never leaves less than one whole version of it on the disk, whenever the process or the machine stops;
//  * what is opened has just been verified against its manifest.
using System.Globalization;
using Mem1.Model.Checkpoints;

namespace Mem1.Learner;

/// <summary>Numbered folders of one kind under the checkpoints folder of a run. One process at a time.</summary>
/// <param name="root">The checkpoints folder of a run; need not exist.</param>
/// <param name="prefix">What names begin with, dash included.</param>
internal sealed class CheckpointFolders(string root, string prefix)
{
    private const string Aside = ".partial", Replaced = ".replaced";

    /// <summary>Numbers of the folders there are, ascending, whole or not.</summary>
    public IReadOnlyList<long> Numbers
    {
        get
        {
            if (!Directory.Exists(root)) return [];
            return [.. Directory.EnumerateDirectories(root, $"{prefix}*").Select(d => Number(Path.GetFileName(d))).Where(n => n >= 0).Order()];
        }
    }

    /// <summary>The folder of a number.</summary>
    public string PathOf(long number) => Path.Combine(root, $"{prefix}{number.ToString(CultureInfo.InvariantCulture)}");

    /// <summary>Writes a folder, over the one of that number if there is one.</summary>
    /// <exception cref="LearnerException">The disk refused; every earlier folder is untouched.</exception>
    public string Write(long number, Action<string> fill)
    {
        var target = PathOf(number);
        var aside = target + Aside;
        try
        {
            Directory.CreateDirectory(root);
            Recover();
            Directory.CreateDirectory(aside);
            fill(aside);
            CheckpointManifest.Write(aside);
            DirectoryFlush.Flush(aside);
            // The same number again: the old one steps aside and goes when the new one is in its place. Stopped in between, Recover
            // brings it back.
            if (Directory.Exists(target)) Directory.Move(target, target + Replaced);
            Directory.Move(aside, target);
            DirectoryFlush.Flush(root);
            Delete(target + Replaced);
            return target;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            try
            {
                Delete(aside);
                Recover();
            }
            catch (Exception cleanup) when (cleanup is IOException or UnauthorizedAccessException)
            {
                // What could not be written could not be removed either; the name says it is partial and nobody reads it.
            }

            throw new LearnerException(
                $"Checkpoint {target} could not be written ({e.Message}); earlier checkpoints are whole: free some space and go on with "
                + "--resume.", e);
        }
    }

    /// <summary>The newest whole folder, or null when there are none at all.</summary>
    /// <param name="warn">Told of each newer one that is damaged, and of what is done about it.</param>
    /// <exception cref="LearnerException">There are folders and none is whole.</exception>
    public string? OpenNewest(Action<string> warn)
    {
        Recover();
        var damaged = new List<string>();
        foreach (var number in Numbers.Reverse())
        {
            var folder = PathOf(number);
            if (CheckpointManifest.Problem(folder) is { } problem)
            {
                damaged.Add(problem);
                continue;
            }

            foreach (var found in damaged)
                warn($"{found}: the checkpoint is not whole, so the run goes on from {Path.GetFileName(folder)}, the newest one that is.");
            return folder;
        }

        if (damaged.Count == 0) return null;
        throw new LearnerException(
            $"{damaged[0]}: the checkpoint is not whole, and neither is any other in {root}; bring one back from a copy, or begin a new run.");
    }

    /// <summary>Removes the folder of a number.</summary>
    public void Remove(long number) => Delete(PathOf(number));

    /// <summary>Undoes what a stop in the middle of <see cref="Write"/> left behind.</summary>
    private void Recover()
    {
        if (!Directory.Exists(root)) return;
        foreach (var partial in Directory.EnumerateDirectories(root, $"{prefix}*{Aside}").ToList()) Delete(partial);
        foreach (var replaced in Directory.EnumerateDirectories(root, $"{prefix}*{Replaced}").ToList())
        {
            var target = replaced[..^Replaced.Length];
            if (Directory.Exists(target)) Delete(replaced);
            else Directory.Move(replaced, target);
        }
    }

    private long Number(string name) =>
        name.Length > prefix.Length && name[prefix.Length..] is { Length: < 19 } digits && digits.All(char.IsAsciiDigit)
            ? long.Parse(digits, CultureInfo.InvariantCulture)
            : -1;

    private static void Delete(string folder)
    {
        if (Directory.Exists(folder)) Directory.Delete(folder, recursive: true);
    }
}
