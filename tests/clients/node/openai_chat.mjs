// OpenAI's SDK and its runner of tools over chat completions, streamed.
import OpenAI from "openai";
import { main, model, schema, task, tools } from "./tools.mjs";

const client = new OpenAI();
const declared = Object.entries(tools).map(([name, tool]) => ({
  type: "function",
  function: {
    name,
    description: tool.description,
    parameters: schema(tool),
    parse: JSON.parse,
    function: tool.run,
  },
}));

await main(async () => {
  const messages = [{ role: "user", content: task }];
  const stream_options = { include_usage: true };
  const runner = client.chat.completions.runTools({ model, messages, tools: declared, stream: true, stream_options });
  let pieces = 0;
  runner.on("content", () => (pieces += 1));
  return { text: await runner.finalContent(), pieces, usage: await runner.totalUsage() };
});
