// OpenAI's SDK and its Responses, streamed; the conversation is sent whole each time.
import OpenAI from "openai";
import { main, model, schema, task, tools } from "./tools.mjs";

const client = new OpenAI();
const declared = Object.entries(tools).map(([name, tool]) => ({
  type: "function",
  name,
  description: tool.description,
  parameters: schema(tool),
  strict: true,
}));

await main(async () => {
  const input = [{ role: "user", content: task }];
  let cost = 0;
  const events = new Set();
  for (;;) {
    const stream = client.responses.stream({ model, input, tools: declared, store: false });
    for await (const event of stream) events.add(event.type);
    const response = await stream.finalResponse();
    cost += response.usage.cost;
    const calls = response.output.filter((item) => item.type === "function_call");
    if (calls.length === 0) return { text: response.output_text, cost, events: [...events].sort() };
    input.push(...response.output);
    for (const call of calls) {
      const output = await tools[call.name].run(JSON.parse(call.arguments));
      input.push({ type: "function_call_output", call_id: call.call_id, output });
    }
  }
});
