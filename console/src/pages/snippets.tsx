/** The same call from a terminal and from OpenAI's SDKs. The key is a variable: it is on no screen. */
import { Tabs } from "@base-ui/react/tabs";
import { API_ORIGIN } from "../api/client";
import { bodyOf, type Question } from "../api/stream";
import { useText } from "../i18n/text";
import { Copy } from "../parts/copy";

const quoted = (text: string) => `'${text.replaceAll("'", "'\\''")}'`;

export function curl(question: Question): string {
  return [
    `curl -N ${API_ORIGIN}/api/v1/chat/completions \\`,
    `  -H "Authorization: Bearer $FUSEWIRE_KEY" -H 'content-type: application/json' \\`,
    `  -d ${quoted(JSON.stringify(bodyOf(question)))}`,
  ].join("\n");
}

// What JSON writes are literals of Python too, but for these three words, which no value here is.
const literal = (value: unknown) => JSON.stringify(value);

export function python(question: Question): string {
  const { model, messages, max_completion_tokens: cap } = bodyOf(question);
  return [
    "import os",
    "from openai import OpenAI",
    "",
    `client = OpenAI(base_url=${literal(`${API_ORIGIN}/api/v1`)}, api_key=os.environ["FUSEWIRE_KEY"])`,
    "stream = client.chat.completions.create(",
    `    model=${literal(model)},`,
    `    messages=${literal(messages)},`,
    ...(cap === undefined ? [] : [`    max_completion_tokens=${cap},`]),
    "    stream=True,",
    ")",
    "for chunk in stream:",
    "    if chunk.choices:",
    '        print(chunk.choices[0].delta.content or "", end="")',
  ].join("\n");
}

export function javascript(question: Question): string {
  const { model, messages, max_completion_tokens: cap } = bodyOf(question);
  return [
    'import OpenAI from "openai";',
    "",
    `const client = new OpenAI({ baseURL: ${literal(`${API_ORIGIN}/api/v1`)}, apiKey: process.env.FUSEWIRE_KEY });`,
    "const stream = await client.chat.completions.create({",
    `  model: ${literal(model)},`,
    `  messages: ${literal(messages)},`,
    ...(cap === undefined ? [] : [`  max_completion_tokens: ${cap},`]),
    "  stream: true,",
    "});",
    'for await (const chunk of stream) process.stdout.write(chunk.choices[0]?.delta?.content ?? "");',
  ].join("\n");
}

const KINDS = { curl, Python: python, JavaScript: javascript };

export function Snippets({ question }: { question: Question }) {
  const t = useText();
  return (
    <section className="card" aria-labelledby="snippets-title">
      <h2 id="snippets-title">{t.playground.snippets}</h2>
      <Tabs.Root defaultValue="curl">
        <Tabs.List className="tabs">
          {Object.keys(KINDS).map((kind) => (
            <Tabs.Tab key={kind} value={kind} className="tab">
              {kind}
            </Tabs.Tab>
          ))}
        </Tabs.List>
        {Object.entries(KINDS).map(([kind, written]) => (
          <Tabs.Panel key={kind} value={kind} className="snippet">
            <pre tabIndex={0}>{written(question)}</pre>
            <Copy text={written(question)} />
          </Tabs.Panel>
        ))}
      </Tabs.Root>
    </section>
  );
}
