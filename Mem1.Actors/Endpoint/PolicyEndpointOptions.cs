namespace Mem1.Actors;

/// <summary>Where a worker's continuations come from.</summary>
public enum PolicyBackend
{
    /// <summary>The engine in the worker's own process.</summary>
    BuiltIn,
    /// <summary>A server with OpenAI's completions that answers token ids and log-probs.</summary>
    Openai,
}

/// <summary>How a policy server is told to load weights from a folder.</summary>
public enum EndpointReload
{
    /// <summary>POST reload below the URL, as mem1 serve has it; every token's version comes with it.</summary>
    Mem1,
    /// <summary>SGLang's POST /update_weights_from_disk.</summary>
    Sglang,
    /// <summary>
    /// vLLM's POST /collective_rpc with reload_weights, then /reset_prefix_cache; the server runs in development mode and was started on
    /// the folder.
    /// </summary>
    Vllm,
}

/// <summary>An external policy server.</summary>
public sealed record PolicyEndpointOptions
{
    /// <summary>Base of its API, such as http://127.0.0.1:8001/v1; openai backend only.</summary>
    public string? Url { get; init; }
    /// <summary>Name of the model there; the only one it lists if not given.</summary>
    public string? Model { get; init; }
    /// <summary>Environment variable with the key it asks for; none if not given.</summary>
    public string? ApiKeyEnv { get; init; }
    /// <summary>Seconds that one try of one call may take.</summary>
    public int Deadline { get; init; } = 300;
    /// <summary>Requests under way at once.</summary>
    public int MaxConcurrency { get; init; } = 64;
    /// <summary>
    /// How often a call that failed for a passing reason (no connection, status 408, 429 or 5xx) is tried again, with back-off.
    /// </summary>
    public int Retries { get; init; } = 6;
    /// <summary>Folder that both see, where the worker writes every version of the weights for the server to load.</summary>
    public string? WeightsFolder { get; init; }
    /// <summary>How the server is told to load them: mem1, sglang or vllm.</summary>
    public EndpointReload Reload { get; init; } = EndpointReload.Mem1;

    /// <summary>Every contradiction, a sentence each.</summary>
    /// <param name="used">Whether the backend is this one.</param>
    public IReadOnlyList<string> Validate(bool used)
    {
        var errors = new List<string>();
        if (!used)
        {
            if (Url is not null) errors.Add("rollout.endpoint.url is set but rollout.backend is built_in; set it to openai.");
            return errors;
        }

        if (!Uri.TryCreate(Url, UriKind.Absolute, out var url) || url.Scheme is not ("http" or "https"))
            errors.Add($"rollout.endpoint.url is \"{Url}\"; it must be the base of an API, such as http://127.0.0.1:8001/v1.");
        if (string.IsNullOrEmpty(WeightsFolder))
            errors.Add("rollout.backend is openai but rollout.endpoint.weights_folder is missing; the server loads new weights from it.");
        if (Deadline < 1) errors.Add($"rollout.endpoint.deadline is {Deadline}; it must be at least 1 second.");
        if (MaxConcurrency < 1) errors.Add($"rollout.endpoint.max_concurrency is {MaxConcurrency}; it must be at least 1.");
        if (Retries < 0) errors.Add($"rollout.endpoint.retries is {Retries}; it must not be negative.");
        return errors;
    }
}
