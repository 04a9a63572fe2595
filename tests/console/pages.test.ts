/** The console's pages in a browser, against a gateway whose only vendor is scripted (`test_console.py`). */
import { readFile } from "node:fs/promises";
import { gzipSync } from "node:zlib";
import { AxeBuilder } from "@axe-core/playwright";
import type { Browser } from "playwright-core";
import { afterAll, beforeAll, expect, test } from "vitest";
import { reach, trapped } from "./keyboard";
import { KEYS, URL_, launch, required, settled, visit } from "./browser";

const MAX_INITIAL_BYTES = 250_000;
const PAGES = ["overview", "budgets", "keys", "usage", "calls", "providers", "audit", "models", "playground"];
const ONES = [`keys/${required("CONSOLE_HOSTILE_KEY")}`, `calls/${required("CONSOLE_FAILED")}`];

let browser: Browser;
beforeAll(async () => {
  browser = await launch();
});
afterAll(() => browser.close());

async function api(path: string, init: RequestInit = {}, key = KEYS.admin): Promise<Response> {
  const answer = await fetch(`${URL_}api/v1${path}`, { ...init, headers: { authorization: `Bearer ${key}`, ...init.headers } });
  if (!answer.ok) throw new Error(`${path}: ${answer.status} ${await answer.text()}`);
  return answer;
}

const post = (path: string, body: object, key = KEYS.admin) =>
  api(path, { method: "POST", body: JSON.stringify(body), headers: { "content-type": "application/json" } }, key);

test("a key signs in, stays in this tab, and a wrong one is told", async () => {
  const { page, context, origins } = await visit(browser, "/");
  const scripts: Promise<Buffer>[] = [];
  page.on("response", (response) => response.url().endsWith(".js") && scripts.push(response.body()));
  await page.reload();
  await page.getByLabel("API key").fill("fw_wrong");
  await page.keyboard.press("Enter");
  await page.getByText("This key isn't valid").waitFor();
  const bytes = (await Promise.all(scripts)).reduce((sum, script) => sum + gzipSync(script).length, 0);
  expect(bytes).toBeGreaterThan(10_000);
  expect(bytes).toBeLessThan(MAX_INITIAL_BYTES);

  await page.getByLabel("API key").fill(KEYS.admin);
  await page.getByRole("button", { name: "Sign in" }).click();
  await page.getByRole("heading", { name: "Overview" }).waitFor();
  expect(await page.evaluate(() => [sessionStorage.length, Object.values(localStorage).sort().join(), document.cookie])).toEqual([2, "en,light", ""]);
  await page.reload();
  await page.getByRole("heading", { name: "Overview" }).waitFor();
  expect([...origins]).toEqual([new URL(URL_).origin]);

  await page.getByRole("button", { name: "Sign out" }).click();
  await page.getByLabel("API key").waitFor();
  expect(await page.evaluate(() => sessionStorage.getItem("fusewire.key"))).toBeNull();
  await context.close();
});

for (const [language, theme, width] of [
  ["en", "light", 1280],
  ["ja", "dark", 390],
] as const)
  test(`every page is accessible and complains of nothing (${language}, ${theme}, ${width} px)`, async () => {
    const { page, context, complaints, origins } = await visit(browser, "/overview", { key: KEYS.admin, language, theme, width });
    for (const name of [...PAGES, ...ONES]) {
      await page.evaluate((path) => (window.location.hash = path), `/${name}`);
      await settled(page);
      const found = await new AxeBuilder({ page }).analyze();
      expect(found.violations.map(({ id, nodes }) => [name, id, nodes.map((node) => node.html.slice(0, 200))])).toEqual([]);
      expect(await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth), `${name} is too wide`).toBeLessThanOrEqual(0);
      expect(await page.locator("main :is(img, script, iframe)").count()).toBe(0);
    }
    expect(complaints).toEqual([]);
    expect([...origins]).toEqual([new URL(URL_).origin]);
    await context.close();
  });

test("an outsider's text is never markup", async () => {
  const { page, context, complaints } = await visit(browser, "/budgets", { key: KEYS.admin });
  await page.getByText(required("CONSOLE_HOSTILE")).first().waitFor();
  expect(complaints).toEqual([]);
  await context.close();
});

test("a budget is made, changed and reset by keyboard, and the audit has the reason", async () => {
  const { page, context } = await visit(browser, "/budgets", { key: KEYS.admin });
  await page.getByRole("button", { name: "New budget", exact: true }).press("Enter");
  await page.getByRole("dialog").getByLabel("Name").fill("Keyboard");
  await page.getByLabel("Limit in USD").fill("12.345678");
  await page.keyboard.press("Enter");
  await page.getByRole("dialog").waitFor({ state: "detached" });
  await page.getByText("of $12.345678").waitFor();

  await page.getByRole("button", { name: "Reset: Company budget" }).press("Enter");
  const dialog = page.getByRole("dialog");
  const before = (await (await api("/admin/budget")).json()) as { window: { id: number }; current_spend_usd: number };
  expect(before.current_spend_usd).toBeGreaterThan(0);
  await dialog.getByText("opens the next one with nothing spent").waitFor();
  const confirm = dialog.getByRole("button", { name: "Reset" });
  expect(await confirm.isDisabled()).toBe(true); // until there is a reason
  await dialog.getByLabel("Reason").fill("tried by keyboard");
  await confirm.press("Enter");
  await dialog.waitFor({ state: "detached" });
  const after = (await (await api("/admin/budget")).json()) as typeof before;
  expect(after.window.id).not.toBe(before.window.id);
  expect(after.current_spend_usd).toBe(0);
  await page.goto(`${URL_}#/audit`);
  await page.getByText("Changes").first().click();
  await page.getByText("tried by keyboard").first().waitFor();
  await context.close();
});

test("the CSV is the API's, to the digit, and the table has the same total", async () => {
  const { page, context } = await visit(browser, "/usage", { key: KEYS.read });
  await settled(page);
  await page.getByRole("button", { name: "This month's chargeback" }).click();
  await page.getByRole("columnheader", { name: "Key" }).waitFor();
  const month = new Date().toISOString().slice(0, 7);
  const query = `month=${month}&group_by=key,budget`;
  const downloading = page.waitForEvent("download");
  await page.getByRole("button", { name: "Download CSV" }).click();
  const file = await (await downloading).path();
  const wanted = await (await api(`/admin/usage?${query}`, { headers: { accept: "text/csv" } })).text();
  expect(await readFile(file, "utf8")).toBe(wanted);
  expect(wanted.split("\r\n").length).toBeGreaterThan(3);
  const total = /"total":\{"cost_usd":([0-9.]+)/.exec(await (await api(`/admin/usage?${query}`)).text())?.[1] ?? "";
  expect(await page.locator(".totals dd").first().textContent()).toBe(`$${total.includes(".") ? total.padEnd(total.indexOf(".") + 3, "0") : `${total}.00`}`);
  await context.close();
});

test("from a request id to the vendor's failure", async () => {
  const id = required("CONSOLE_FAILED");
  const { page, context } = await visit(browser, "/calls", { key: KEYS.read });
  await page.getByLabel("Request id").fill(id);
  await page.keyboard.press("Enter");
  await page.waitForURL(/request_id=/);
  await settled(page);
  await page.getByRole("table").getByRole("link").first().click();
  await page.getByText(id).waitFor();
  await page.locator(".timeline .badge.bad").first().waitFor();
  await page.goto(`${URL_}#/providers`);
  await page.getByText("Last failure").first().waitFor();
  await context.close();
});

test("a runaway key is found and its budget lowered, and its next call is refused", async () => {
  const made = (await (await post("/admin/keys", { name: "runaway", scopes: ["complete"], monthly_budget_usd: "5" })).json()) as { id: string; key: string };
  const call = () => post("/chat/completions", { model: "sota", max_completion_tokens: 5, messages: [{ role: "user", content: "Hello" }] }, made.key);
  await call();
  const { page, context } = await visit(browser, "/keys", { key: KEYS.admin });
  await page.getByLabel("Search by name").fill("runaway");
  await page.getByRole("link", { name: "runaway" }).click();
  await page.getByRole("button", { name: "Change" }).click();
  await page.getByLabel("Limit in USD").fill("0.000001");
  await page.getByRole("button", { name: "Save" }).click();
  await page.getByText("of $0.000001").waitFor();
  await expect(call()).rejects.toThrow("402");
  await context.close();
});

test("by keyboard alone, finance finds a team and downloads its month", async () => {
  const { page, context } = await visit(browser, "/");
  await page.getByLabel("API key").waitFor();
  await page.keyboard.type(KEYS.read); // it has the focus
  await page.keyboard.press("Enter");
  await page.getByRole("heading", { name: "Overview" }).waitFor();
  await settled(page);
  await reach(page, "Skip to the content");
  await page.keyboard.press("Enter");
  expect(await page.evaluate(() => document.activeElement?.id)).toBe("main");
  await reach(page, "Budgets", "Shift+Tab");
  await page.keyboard.press("Enter");
  await page.getByRole("heading", { name: "Budgets" }).waitFor();
  await settled(page);
  await reach(page, "Budgets below Company budget");
  await page.keyboard.press("Space");
  await page.getByText("Search", { exact: true }).waitFor({ state: "detached" });
  await page.keyboard.press("Space");
  const search = page.getByRole("row", { name: "Search" });
  const spent = /"name":"Search".*?"current_spend_usd":([0-9.]+)/.exec(await (await api("/admin/budgets")).text())?.[1];
  expect((await search.textContent())?.replaceAll(",", "")).toContain(`$${spent}`);

  await reach(page, "Usage", "Shift+Tab");
  await page.keyboard.press("Enter");
  await page.getByRole("heading", { name: "Usage", exact: true }).waitFor();
  await settled(page);
  await reach(page, "This month's chargeback");
  await page.keyboard.press("Enter");
  await page.getByRole("columnheader", { name: "Key" }).waitFor();
  await reach(page, "Download CSV");
  const downloading = page.waitForEvent("download");
  await page.keyboard.press("Enter");
  const file = await (await downloading).path();
  const wanted = await api(`/admin/usage?month=${new Date().toISOString().slice(0, 7)}&group_by=key,budget`, { headers: { accept: "text/csv" } });
  expect(await readFile(file, "utf8")).toBe(await wanted.text());
  await context.close();
});

test("by keyboard alone, the engineer on call finds a failure, and stops a key", async () => {
  const made = (await (await post("/admin/keys", { name: "loops", scopes: ["complete"], monthly_budget_usd: "5" })).json()) as { key: string };
  const call = () => post("/chat/completions", { model: "sota", max_completion_tokens: 5, messages: [{ role: "user", content: "Hello" }] }, made.key);
  await call();
  const { page, context } = await visit(browser, "/overview", { key: KEYS.admin });
  await settled(page);
  await reach(page, "Calls");
  await page.keyboard.press("Enter");
  await page.getByRole("heading", { name: "Calls", exact: true }).waitFor();
  await settled(page);
  await reach(page, "Request id");
  await page.keyboard.type(required("CONSOLE_FAILED"));
  await page.keyboard.press("Enter");
  await page.waitForURL(/request_id=/);
  await settled(page);
  await reach(page, /^\w+ \d+, \d+, \d+:/); // the time, which is the row's link
  await page.keyboard.press("Enter");
  await page.locator(".timeline .badge.bad").first().waitFor();
  await page.goBack();
  expect(await page.getByLabel("Request id").inputValue()).toBe(required("CONSOLE_FAILED"));
  await reach(page, "Clear");
  await page.keyboard.press("Enter");
  await page.waitForURL(/#\/calls$/);

  await reach(page, "Keys", "Shift+Tab");
  await page.keyboard.press("Enter");
  await page.getByRole("heading", { name: "Keys", exact: true }).waitFor();
  await settled(page);
  await reach(page, /^Search/);
  await page.keyboard.type("loops");
  await page.getByRole("link", { name: "loops" }).waitFor();
  await reach(page, "loops");
  await page.keyboard.press("Enter");
  await page.getByRole("heading", { name: "loops" }).waitFor();
  await settled(page);
  await reach(page, "Change");
  await page.keyboard.press("Enter");
  await trapped(page, "Change");
  await page.keyboard.press("Enter");
  await page.getByRole("dialog").waitFor();
  await reach(page, "Limit in USD");
  await page.keyboard.press("Control+A");
  await page.keyboard.type("0.000001");
  await page.keyboard.press("Enter");
  await page.getByText("of $0.000001").waitFor();
  await expect(call()).rejects.toThrow("402");
  await context.close();
});

test("a key is made and its secret shown once; when it is revoked its session ends", async () => {
  const { page, context } = await visit(browser, "/keys", { key: KEYS.admin });
  await page.getByRole("button", { name: "New key" }).click();
  await page.getByRole("dialog").getByLabel("Name").fill("short-lived");
  await page.getByRole("dialog").getByRole("button", { name: "New key" }).click();
  await page.getByText("shown only this once").waitFor();
  const secret = (await page.locator(".secret code").textContent()) ?? "";
  expect(secret).toMatch(/^fw_/);
  await page.getByRole("button", { name: "I have copied it" }).click();
  expect(await page.content()).not.toContain(secret);

  const other = await visit(browser, "/", { key: secret });
  await other.page.getByRole("heading", { name: "My key" }).waitFor();
  await page.getByRole("link", { name: "short-lived" }).click();
  await page.getByRole("button", { name: "Revoke" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Revoke" }).click();
  await page.getByText("Revoked", { exact: true }).waitFor();
  await other.page.getByText("Your key isn't valid any more").waitFor({ timeout: 90_000 });
  expect(await other.page.evaluate(() => sessionStorage.getItem("fusewire.key"))).toBeNull();
  await other.context.close();
  await context.close();
});

test("who may only read has no buttons that change something, and a plain key sees only itself", async () => {
  const reader = await visit(browser, "/budgets", { key: KEYS.read });
  await settled(reader.page);
  const changing = /New|Change|Reset|Delete|Probe|Rotate|Revoke|^\+$/;
  for (const name of ["budgets", "keys", "providers", "audit", ...ONES]) {
    await reader.page.goto(`${URL_}#/${name}`);
    await settled(reader.page);
    expect(await reader.page.getByRole("button", { name: changing }).count()).toBe(0);
  }
  expect(reader.complaints).toEqual([]);
  await reader.context.close();
  const bound = await visit(browser, "/budgets", { key: KEYS.bound });
  await bound.page.getByRole("button", { name: "New budget below: Search" }).waitFor();
  expect(await bound.page.getByRole("button", { name: /(Change|Reset|Delete): (Search|Company budget)/ }).count()).toBe(0);
  expect(await bound.page.getByRole("navigation").getByRole("link").allTextContents()).not.toContain("Providers");
  for (const name of ["keys", "usage", "calls", "audit", "models"]) {
    await bound.page.goto(`${URL_}#/${name}`);
    await settled(bound.page);
  }
  expect(bound.complaints).toEqual([]); // it asked for nothing beyond its part
  await bound.context.close();
  const plain = await visit(browser, "/budgets", { key: KEYS.plain });
  await plain.page.getByRole("heading", { name: "My key" }).waitFor();
  expect(await plain.page.getByRole("navigation").getByRole("link").allTextContents()).toEqual(["My key", "Models", "Playground"]);
  expect(plain.complaints).toEqual([]); // nothing was asked for that it may not see
  await plain.context.close();
});

test("an answer is streamed, with its cost and its entry in the calls", async () => {
  const { page, context, complaints } = await visit(browser, "/playground", { key: KEYS.admin });
  await page.getByLabel("Prompt", { exact: true }).fill("What is the capital of France?");
  await page.getByRole("button", { name: "Send" }).click();
  await page.getByText("Paris.").waitFor();
  const cost = await page.locator(".facts > div", { hasText: "Cost" }).locator("dd").textContent();
  await page.getByRole("link", { name: "Its entry in Calls" }).click();
  await page.locator(".timeline .badge.good").waitFor();
  expect(await page.locator(".totals dd").first().textContent()).toBe(cost);
  expect(complaints).toEqual([]);
  await context.close();
});

test("a dead API is told, and the page goes on when it is back", async () => {
  const { page, context } = await visit(browser, "/overview", { key: KEYS.admin });
  await settled(page);
  await page.route("**/api/v1/**", (route) => route.abort());
  await page.getByText("The API can't be reached. What you see is as of").waitFor({ timeout: 40_000 });
  await page.reload();
  await page.getByText("The API can't be reached.").waitFor();
  await page.unroute("**/api/v1/**");
  await page.getByRole("button", { name: "Try again" }).click();
  await page.getByRole("heading", { name: "Overview" }).waitFor();
  await context.close();
});
