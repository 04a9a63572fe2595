import { describe, expect, test } from "vitest";
import { compareDecimals, parseExact, type Decimal } from "../../console/src/api/exact";
import { events } from "../../console/src/api/stream";
import { formatIn } from "../../console/src/format/use-format";
import { en } from "../../console/src/i18n/en";
import { ja } from "../../console/src/i18n/ja";
import { tree, type Node } from "../../console/src/pages/budgets";
import { curl, javascript, python } from "../../console/src/pages/snippets";
import { permissionsOf, type Me } from "../../console/src/session";

describe("amounts", () => {
  const exact = "119.234769016101881030000000000000000001";

  test("stay as they were written, and counts are numbers", () => {
    expect(parseExact(`{"cost_usd": ${exact}, "requests": 3, "by_model": {"m": 0.1}, "window": {"id": 7}}`)).toEqual({
      cost_usd: exact,
      requests: 3,
      by_model: { m: "0.1" },
      window: { id: 7 },
    });
    expect(() => parseExact("{")).toThrow(SyntaxError);
  });

  test("are shown with every digit that the API gave", () => {
    expect(formatIn("en").usd("1234567.000000000001")).toBe("$1,234,567.000000000001");
    expect(formatIn("ja").usd("0.1")).toBe("$0.10");
    expect(formatIn("en").percent("0.112080")).toBe("11.21%");
  });

  test("are compared without a double between", () => {
    const sorted = ["-1", "0", "1e-7", "0.3", "0.30000000000000001", "2", "10"] as Decimal[];
    expect([...sorted].reverse().sort(compareDecimals)).toEqual(sorted);
  });
});

test("a stream's events are whole, however they arrive", async () => {
  const text = 'data: {"a": "東京"}\n\n: ping\n\ndata: one\r\n\r\ndata: two\ndata: lines\n\ndata: half';
  const bytes = new TextEncoder().encode(text);
  for (const size of [1, 2, 7, bytes.length]) {
    const body = new ReadableStream<Uint8Array>({
      start(controller) {
        for (let at = 0; at < bytes.length; at += size) controller.enqueue(bytes.slice(at, at + size));
        controller.close();
      },
    });
    const found: string[] = [];
    for await (const event of events(body)) found.push(event);
    expect(found).toEqual(['{"a": "東京"}', "one", "two\nlines"]);
  }
});

test("both languages have every text, and none is left in English", () => {
  const leaves = (value: object, path = ""): [string, unknown][] =>
    Object.entries(value).flatMap(([name, each]) => (typeof each === "object" ? leaves(each as object, `${path}.${name}`) : [[`${path}.${name}`, each]]));
  const [english, japanese] = [leaves(en), new Map(leaves(ja))];
  expect(english.map(([name]) => name).sort()).toEqual([...japanese.keys()].sort());
  const same = english.filter(([name, text]) => typeof text === "string" && text === japanese.get(name));
  expect(same.map(([name]) => name)).toEqual([]);
});

describe("the tree", () => {
  const node = (id: string, parent_id: string | null) => ({ id, parent_id, name: id }) as Node;
  const nodes = [node("a", null), node("b", "a"), node("c", "b"), node("d", null), node("e", "outside")];

  test("has each node below the one above it, and closed ones hide theirs", () => {
    const rows = (closed: string[]) => tree(nodes, null, "all", new Set(closed)).map((row) => `${row.depth}${row.id}`);
    expect(rows([])).toEqual(["0a", "1b", "2c", "0d", "0e"]);
    expect(rows(["b"])).toEqual(["0a", "1b", "0d", "0e"]);
  });
});

test("a key may what its scopes say, for its part of the tree", () => {
  const may = (scopes: string[], bound = false) => permissionsOf({ scopes, scope_budget: bound ? { id: "b", name: "B" } : null } as Me);
  expect(may(["complete"])).toEqual({ complete: true, read: false, admin: false, readsCompany: false, administersCompany: false });
  expect(may(["read"])).toMatchObject({ read: true, admin: false, readsCompany: true, administersCompany: false });
  expect(may(["admin"], true)).toMatchObject({ read: true, admin: true, readsCompany: false, administersCompany: false });
});

test("the lines for a program quote whatever was typed", () => {
  const question = { model: "sota", system: "", prompt: `it's "quoted" $HOME \\ 東京`, maxTokens: 5 };
  expect(curl(question)).toContain(`it'\\''s \\"quoted\\" $HOME`);
  for (const written of [python(question), javascript(question)]) {
    expect(written).toContain(JSON.stringify(question.prompt));
    expect(written).not.toContain("fw_");
  }
});
