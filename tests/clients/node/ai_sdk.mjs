// Vercel's AI SDK over either API of OpenAI's, or its provider for compatible ones: tools, a second turn, an object.
import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { generateText, isStepCount, jsonSchema, Output, streamText, tool } from "ai";
import { apiKey, baseURL, main, model, schema, task, tools } from "./tools.mjs";

const [, , , , api, store] = process.argv;
const openai = createOpenAI({ baseURL, apiKey });
const compatible = { name: "fusewire", baseURL, apiKey, includeUsage: true, supportsStructuredOutputs: true };
const languageModel = {
  responses: () => openai.responses(model),
  chat: () => openai.chat(model),
  compatible: () => createOpenAICompatible(compatible)(model),
}[api]();
const declared = Object.fromEntries(
  Object.entries(tools).map(([name, each]) => [
    name,
    tool({ description: each.description, inputSchema: jsonSchema(schema(each)), execute: each.run }),
  ]),
);
const shared = {
  model: languageModel,
  providerOptions: api === "responses" && store !== "default" ? { openai: { store: false } } : {},
  onError: () => {},
};

await main(async () => {
  const messages = [{ role: "user", content: task }];
  const stopWhen = isStepCount(5);
  const first = streamText({ ...shared, messages, tools: declared, stopWhen });
  let text = "";
  for await (const part of first.fullStream) {
    if (part.type === "error") throw part.error;
    if (part.type === "text-delta") text += part.text;
  }
  messages.push(...(await first.responseMessages), { role: "user", content: "And now?" });
  const second = await generateText({ ...shared, messages, tools: declared });
  const object = await generateText({
    ...shared,
    prompt: "The capital, as an object",
    output: Output.object({ schema: jsonSchema(schema({ properties: { city: { type: "string" } } })) }),
  });
  const { inputTokens, outputTokens } = await first.totalUsage;
  return { text, second: second.text, object: object.output, inputTokens, outputTokens };
});
