// OpenAI's public client against a server. Reads {base, completion, chat, refused} as JSON: where the API is, and a request of each kind;
// writes what the client returned, whole and in pieces. Run it in the folder that holds node_modules; nothing here comes from mem1.
import OpenAI from "openai";

const chunks = [];
for await (const chunk of process.stdin) chunks.push(chunk);
const ask = JSON.parse(Buffer.concat(chunks).toString("utf8"));
const client = new OpenAI({ baseURL: ask.base, apiKey: "none", maxRetries: 0 });
const streamed = { stream: true, stream_options: { include_usage: true } };
const pieces = async (stream) => {
    const all = [];
    for await (const piece of stream) all.push(piece);
    return all;
};
const answer = {
    models: (await client.models.list()).data.map((model) => model.id),
    completion: await client.completions.create(ask.completion),
    completionPieces: await pieces(await client.completions.create({ ...ask.completion, ...streamed })),
    chat: await client.chat.completions.create(ask.chat),
    chatPieces: await pieces(await client.chat.completions.create({ ...ask.chat, ...streamed })),
};
try {
    await client.completions.create(ask.refused);
} catch (error) {
    answer.refusal = { type: error.constructor.name, status: error.status, message: error.message, param: error.param };
}
process.stdout.write(JSON.stringify(answer));
