using Microsoft.AspNetCore.Http;

namespace Mem1.Cli.Serve;

/// <summary>A request cannot be answered; the message is one sentence for the client, in the shape of OpenAI's errors.</summary>
/// <param name="status">HTTP status.</param>
/// <param name="message">What is wrong and what to do.</param>
/// <param name="parameter">The field at fault, if it is one.</param>
/// <param name="code">For programs.</param>
internal sealed class ApiException(int status, string message, string? parameter = null, string? code = null) : Exception(message)
{
    public int Status => status;

    public string? Parameter => parameter;

    public string? Code => code;

    /// <summary>OpenAI's word for the kind of error.</summary>
    public string Type => status switch
    {
        StatusCodes.Status401Unauthorized => "authentication_error",
        StatusCodes.Status429TooManyRequests => "rate_limit_error",
        StatusCodes.Status504GatewayTimeout => "timeout_error",
        >= StatusCodes.Status500InternalServerError => "server_error",
        _ => "invalid_request_error",
    };

    /// <summary>The body of the answer.</summary>
    public object Body => new { error = new { message = Message, type = Type, param = Parameter, code = Code } };

    public static ApiException Bad(string message, string? parameter = null) =>
        new(StatusCodes.Status400BadRequest, message, parameter);
}
