// Anthropic's SDK and its runner of tools over Messages, streamed.
import Anthropic from "@anthropic-ai/sdk";
import { betaTool } from "@anthropic-ai/sdk/helpers/beta/json-schema";
import { main, model, schema, task, tools } from "./tools.mjs";

const client = new Anthropic();
const declared = Object.entries(tools).map(([name, tool]) =>
  betaTool({ name, description: tool.description, inputSchema: schema(tool), run: tool.run }),
);

await main(async () => {
  const messages = [{ role: "user", content: task }];
  const runner = client.beta.messages.toolRunner({ model, messages, tools: declared, max_tokens: 1000, stream: true });
  const events = new Set();
  const usage = [];
  let text = "";
  for await (const stream of runner) {
    for await (const event of stream) events.add(event.type);
    const message = await stream.finalMessage();
    usage.push([message.usage.input_tokens, message.usage.output_tokens, message.usage.cost]);
    text = message.content.map((block) => block.text ?? "").join("");
  }
  const counted = await client.messages.countTokens({ model, messages });
  return { text, usage, events: [...events].sort(), counted: counted.input_tokens };
});
