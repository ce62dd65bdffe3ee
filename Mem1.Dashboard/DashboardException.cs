namespace Mem1.Dashboard;

/// <summary>An expected failure of the dashboard, in one sentence for the user.</summary>
public sealed class DashboardException(string message, Exception? inner = null) : Exception(message, inner);
