import { useQueryClient } from "@tanstack/react-query";
import { useEffect, useReducer, useRef, useState, type FormEvent } from "react";
import type { Decimal } from "../api/exact";
import { ask, type Event, type Question, type Served } from "../api/stream";
import { useFormat } from "../format/use-format";
import { useText } from "../i18n/text";
import { SelectField, TextArea, TextField } from "../parts/fields";
import { Answered, Empty, Failure } from "../parts/states";
import { useSession } from "../session";
import { Head } from "../shell";
import { useModels, type Listed } from "./models";
import { Snippets } from "./snippets";

interface Run {
  state: "idle" | "running" | "done" | "stopped" | "failed";
  text: string;
  served: Served | null;
  finish: string | null;
  usage: { input: string; output: string; cost: Decimal | null } | null;
  error: Error | null;
  /** Milliseconds from asking. */
  firstText: number | null;
  took: number | null;
}

type Step = { kind: "start" } | { kind: "stopped"; after: number } | { kind: "failed"; error: Error } | { kind: "done"; after: number } | { kind: "event"; event: Event; after: number };

const IDLE: Run = { state: "idle", text: "", served: null, finish: null, usage: null, error: null, firstText: null, took: null };

function step(run: Run, action: Step): Run {
  switch (action.kind) {
    case "start":
      return { ...IDLE, state: "running" };
    case "stopped":
      return { ...run, state: "stopped", took: action.after };
    case "failed":
      return { ...run, state: "failed", error: action.error };
    case "done":
      return { ...run, state: "done", took: action.after };
    case "event": {
      const { event, after } = action;
      if (event.kind === "head") return { ...run, served: event.served };
      if (event.kind === "text") return { ...run, text: run.text + event.text, firstText: run.firstText ?? after };
      if (event.kind === "finish") return { ...run, finish: event.reason };
      return { ...run, usage: { input: event.input, output: event.output, cost: event.cost } };
    }
  }
}

export default function Playground() {
  const t = useText();
  const models = useModels();
  return (
    <>
      <Head title={t.pages.playground} />
      <Answered query={models}>
        {({ data }) => {
          const chat = data.filter((each) => each.kind !== "embedding");
          return chat.length === 0 ? <Empty>{t.models.none}</Empty> : <Ask models={chat} />;
        }}
      </Answered>
    </>
  );
}

function Ask({ models }: { models: readonly Listed[] }) {
  const t = useText();
  const { key } = useSession();
  const client = useQueryClient();
  const [model, setModel] = useState(models[0]?.id ?? "");
  const [system, setSystem] = useState("");
  const [prompt, setPrompt] = useState("");
  const [maxTokens, setMaxTokens] = useState("256");
  const [run, dispatch] = useReducer(step, IDLE);
  const stop = useRef<AbortController | null>(null);
  useEffect(() => () => stop.current?.abort(), []);
  const cap = Number(maxTokens);
  const question: Question = { model, system: system.trim(), prompt, maxTokens: Number.isInteger(cap) && cap > 0 ? cap : null };

  async function submit(event: FormEvent) {
    event.preventDefault();
    const aborter = new AbortController();
    stop.current = aborter;
    const start = performance.now();
    const after = () => Math.round(performance.now() - start);
    dispatch({ kind: "start" });
    try {
      for await (const each of ask(key, question, aborter.signal)) dispatch({ kind: "event", event: each, after: after() });
      dispatch({ kind: "done", after: after() });
    } catch (error) {
      if (aborter.signal.aborted) dispatch({ kind: "stopped", after: after() });
      else dispatch({ kind: "failed", error: error as Error });
    }
    // Its spend has changed; a key that has ended is noticed by the same answer.
    void client.invalidateQueries({ queryKey: ["me"] });
  }

  return (
    <>
      <form className="card" onSubmit={(event) => void submit(event)}>
        <div className="pair">
          <SelectField label={t.playground.model} value={model} onChange={setModel} options={models.map(({ id, kind }) => ({ value: id, label: kind === "tier" ? `${id} (${t.playground.tier})` : id }))} />
          <TextField type="number" label={t.playground.maxTokens} value={maxTokens} onChange={setMaxTokens} />
        </div>
        <TextArea label={t.playground.system} value={system} onChange={setSystem} rows={1} />
        <TextArea label={t.playground.prompt} value={prompt} onChange={setPrompt} rows={4} required />
        <p className="note">{t.playground.costs}</p>
        <div className="filters-actions">
          <button className="button primary" disabled={run.state === "running" || prompt.trim() === ""}>
            {run.state === "running" ? t.states.busy : t.playground.send}
          </button>
          {run.state === "running" && (
            <button type="button" className="button" onClick={() => stop.current?.abort()}>
              {t.playground.stop}
            </button>
          )}
        </div>
      </form>
      {run.state !== "idle" && <Answer run={run} />}
      <Snippets question={question} />
    </>
  );
}

function Answer({ run }: { run: Run }) {
  const t = useText();
  const format = useFormat();
  const { may } = useSession();
  const { served, usage } = run;
  const facts: [string, string | null | undefined][] = [
    [t.playground.provider, served?.provider],
    [t.playground.model, served?.model],
    [t.calls.attempts, served?.attempts],
    [t.calls.cost, usage ? (usage.cost === null ? "–" : format.usd(usage.cost)) : null],
    [t.calls.tokens, usage && `${usage.input} → ${usage.output}`],
    [t.playground.firstText, run.firstText === null ? null : `${format.count(run.firstText)} ms`],
    [t.calls.took, run.took === null ? null : `${format.count(run.took)} ms`],
    [t.playground.finish, run.finish],
    [t.playground.downgraded, served?.downgradedFrom],
    [t.playground.outputCap, served?.outputCap],
  ];
  return (
    <section className="card" aria-labelledby="answer-title">
      <div className="card-head">
        <h2 id="answer-title">{t.playground.answer}</h2>
        {served?.requestId &&
          (may.read ? <a href={`#/calls/${encodeURIComponent(served.requestId)}`}>{t.playground.story}</a> : <code className="small">{served.requestId}</code>)}
      </div>
      <div className="answer" aria-live="polite" aria-busy={run.state === "running"}>
        {run.text}
        {run.state === "running" && <span className="cursor" aria-hidden="true" />}
      </div>
      {run.state === "stopped" && <p className="note warn">{t.playground.stopped}</p>}
      {run.error && <Failure error={run.error} />}
      <dl className="facts">
        {facts.flatMap(([name, value]) =>
          value
            ? [
                <div key={name}>
                  <dt>{name}</dt>
                  <dd>{value}</dd>
                </div>,
              ]
            : [],
        )}
      </dl>
    </section>
  );
}
