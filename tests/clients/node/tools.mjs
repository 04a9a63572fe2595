// The two tools that every client here gets, and what it prints at its end.
import { readFile, writeFile } from "node:fs/promises";

export const [model, task = ""] = process.argv.slice(2);
export const baseURL = process.env.OPENAI_BASE_URL;
export const apiKey = process.env.OPENAI_API_KEY;

export const tools = {
  read_file: {
    description: "Read a file",
    properties: { path: { type: "string" } },
    run: ({ path }) => readFile(path, "utf8"),
  },
  write_file: {
    description: "Write a file",
    properties: { path: { type: "string" }, text: { type: "string" } },
    run: async ({ path, text }) => {
      await writeFile(path, text);
      return "written";
    },
  },
};

export const schema = ({ properties }) => ({
  type: "object",
  properties,
  required: Object.keys(properties),
  additionalProperties: false,
});

export const print = (result) => console.log(JSON.stringify(result));

// What an SDK raises, as the tests look at it.
export async function main(run) {
  try {
    print(await run());
  } catch (error) {
    const cause = error.lastError ?? error;
    print({ error: cause.message, status: cause.status ?? cause.statusCode ?? null, code: cause.code ?? null });
  }
}
