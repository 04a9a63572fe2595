/** What finance and operators change and look for, in a browser, and what a slow API looks like (`test_console.py`). */
import { readFile } from "node:fs/promises";
import { AxeBuilder } from "@axe-core/playwright";
import type { Browser, Page } from "playwright-core";
import { afterAll, beforeAll, expect, test } from "vitest";
import { KEYS, URL_, launch, settled, visit } from "./browser";

let browser: Browser;
beforeAll(async () => {
  browser = await launch();
});
afterAll(() => browser.close());

async function api<T>(path: string, body?: object, method = body ? "POST" : "GET"): Promise<T> {
  const answer = await fetch(`${URL_}api/v1${path}`, {
    method,
    headers: { authorization: `Bearer ${KEYS.admin}`, "content-type": "application/json" },
    ...(body && { body: JSON.stringify(body) }),
  });
  if (!answer.ok) throw new Error(`${path}: ${answer.status} ${await answer.text()}`);
  return (await answer.json()) as T;
}

/** The addresses of the API that the page asks, from here on. */
function asked(page: Page): URL[] {
  const urls: URL[] = [];
  page.on("request", (request) => request.url().includes("/api/v1/") && urls.push(new URL(request.url())));
  return urls;
}

async function isAccessible(page: Page): Promise<void> {
  const found = await new AxeBuilder({ page }).analyze();
  expect(found.violations.map(({ id, nodes }) => [id, nodes.map((node) => node.html.slice(0, 200))])).toEqual([]);
}

test("a key is found by the API, whatever page it is on, and no page asks for more than it shows", async () => {
  await api("/admin/keys", { name: "needle 100%", scopes: ["complete"], tags: { team: "sewing" } });
  for (let n = 0; n < 55; n++) await api("/admin/keys", { name: `straw 1000-${n}`, scopes: ["complete"] });
  const { page, context, complaints } = await visit(browser, "/keys", { key: KEYS.read });
  const urls = asked(page);
  await settled(page);
  await page.getByText("50 shown, there are more").waitFor();
  expect(await page.getByRole("link", { name: "needle 100%" }).count()).toBe(0);
  for (const text of ["dle 100%", "SEWING"]) {
    await page.getByLabel("Search by name").fill(text);
    await page.getByText("1 shown", { exact: true }).waitFor();
    await page.getByRole("link", { name: "needle 100%" }).waitFor();
  }
  await page.getByLabel("Search by name").fill("nobody's");
  await page.getByText("No key matches.").waitFor();
  await page.getByLabel("Search by name").fill("straw");
  await page.getByText("50 shown, there are more").waitFor();
  await page.getByRole("button", { name: "Show more" }).click();
  await page.getByText("55 shown", { exact: true }).waitFor();
  const lists = urls.filter((url) => url.pathname.endsWith("/admin/keys"));
  expect(lists.length).toBeLessThan(8); // not one for each character
  expect([...new Set(lists.map((url) => url.searchParams.get("limit")))]).toEqual(["50"]);
  expect(complaints).toEqual([]);
  await context.close();
});

test("usage of one provider and model, and the CSV of just that", async () => {
  const { page, context } = await visit(browser, "/usage", { key: KEYS.read });
  await settled(page);
  const field = page.getByLabel("Key", { exact: true }).and(page.locator("input[list]"));
  await field.fill("search-p");
  const found = page.locator("datalist option", { hasText: "search-prod" });
  await found.waitFor({ state: "attached" });
  const key = (await found.getAttribute("value")) ?? "";
  await field.fill(key);
  const { rows } = await api<{ rows: { provider: string; model: string }[] }>(`/admin/usage?group_by=provider,model&key=${key}`);
  const [one] = rows;
  if (one === undefined) throw new Error("It spent nothing.");
  await page.getByLabel("Provider").and(page.locator("select")).selectOption(one.provider);
  await page.getByLabel("Model").and(page.locator("select")).selectOption(one.model);
  await page.getByRole("checkbox", { name: "Key" }).check();
  await page.getByRole("cell", { name: "search-prod" }).first().waitFor(); // by its name
  const downloading = page.waitForEvent("download");
  await page.getByRole("button", { name: "Download CSV" }).click();
  const file = await readFile(await (await downloading).path(), "utf8");
  const shown = await page.getByRole("table").getByRole("row").count();
  expect(file.trim().split("\r\n")).toHaveLength(shown);
  expect(file).toContain("key,key_name,");
  expect(file).toContain(",search-prod,");
  await context.close();
});

test("an amount is booked by hand: what it does is named, and it is in the list and the budget", async () => {
  const before = await api<{ window: { id: number } }>("/admin/budget");
  const { page, context, complaints } = await visit(browser, "/budgets", { key: KEYS.admin });
  await page.getByRole("link", { name: "Adjustments" }).click();
  await page.getByText("Nothing was adjusted.").waitFor();
  await page.getByRole("button", { name: "Book an adjustment" }).click();
  const dialog = page.getByRole("dialog");
  const book = dialog.getByRole("button", { name: "Book an adjustment" });
  await dialog.getByLabel("Amount in USD").fill("1.234567890123");
  expect(await book.isDisabled()).toBe(true); // until there is a reason
  await dialog.getByText("This books $1.234567890123 as spent in the open window").waitFor();
  await dialog.getByLabel("Reason").fill("invoice 4711");
  await isAccessible(page);
  await book.click();
  await dialog.waitFor({ state: "detached" });
  await page.getByRole("cell", { name: "invoice 4711" }).waitFor();
  await page.getByRole("cell", { name: "$1.234567890123" }).waitFor();
  await isAccessible(page);
  const { rows } = await api<{ rows: { reason: string; window_id: number }[] }>("/admin/budget/adjustments");
  expect(rows.map(({ reason, window_id }) => [reason, window_id])).toEqual([["invoice 4711", before.window.id]]);

  await page.getByRole("button", { name: "Book an adjustment" }).click();
  await dialog.getByLabel("Amount in USD").fill("-1000");
  await dialog.getByText("This takes $1,000.00 off").waitFor();
  await dialog.getByLabel("Reason").fill("too much");
  await book.click();
  await dialog.getByRole("alert").waitFor(); // more than was spent
  await dialog.getByRole("button", { name: "Cancel" }).click();
  expect(complaints.filter((complaint) => !complaint.includes("400"))).toEqual([]);
  await context.close();

  const reader = await visit(browser, "/adjustments", { key: KEYS.read });
  await reader.page.getByRole("cell", { name: "invoice 4711" }).waitFor();
  expect(await reader.page.getByRole("button", { name: "Book an adjustment" }).count()).toBe(0);
  await reader.context.close();
});

test("a budget's thresholds and a key's limit per user are changed, and taken away", async () => {
  const node = await api<{ id: string }>("/admin/budgets", { name: "Thresholds", limit_usd: 10 });
  const key = await api<{ id: string }>("/admin/keys", { name: "with users", scopes: ["complete"] });
  const { page, context } = await visit(browser, "/budgets", { key: KEYS.admin });
  const dialog = page.getByRole("dialog");
  const save = async () => {
    await dialog.getByRole("button", { name: "Save" }).click();
    await dialog.waitFor({ state: "detached" });
  };
  await page.getByRole("button", { name: "Change: Thresholds" }).click();
  expect(await dialog.getByLabel("Nearly used up from").getAttribute("placeholder")).toBe("80"); // the company's
  await dialog.getByLabel("Nearly used up from").fill("33.3");
  await dialog.getByLabel("Stopped from").fill("66.6");
  await save();
  expect(await api(`/admin/budgets/${node.id}`)).toMatchObject({ alert_threshold: 0.333, open_threshold: 0.666, limit_usd: 10 });
  await page.getByRole("button", { name: "Change: Thresholds" }).click();
  expect(await dialog.getByLabel("Stopped from").inputValue()).toBe("66.6");
  await dialog.getByLabel("Stopped from").fill("");
  await save();
  expect(await api(`/admin/budgets/${node.id}`)).toMatchObject({ alert_threshold: 0.333, open_threshold: null });

  await page.goto(`${URL_}#/keys/${key.id}`);
  await page.getByRole("button", { name: "Change" }).click();
  await dialog.getByLabel("Limit per user").fill("0.25");
  await dialog.getByLabel("internal", { exact: true }).check();
  await save();
  await page.locator(".facts > div", { hasText: "Limit per user" }).getByText("$0.25").waitFor();
  expect(await api(`/admin/keys/${key.id}`)).toMatchObject({ per_user_limit_usd: 0.25, monthly_budget_usd: null, allowed_classifications: ["internal"] });
  await context.close();
});

test("a plain key sees its own usage by day, and asks for nobody else's", async () => {
  const { page, context, complaints } = await visit(browser, "/me", { key: KEYS.plain });
  const urls = asked(page);
  await page.reload();
  await page.getByRole("heading", { name: "Spend by day" }).waitFor();
  await page.locator(".chart svg").waitFor();
  expect([...new Set(urls.map((url) => url.pathname))].sort()).toEqual(["/api/v1/me", "/api/v1/me/usage"]);
  await isAccessible(page);
  expect(complaints).toEqual([]);
  await context.close();
});

test("today is the gateway's, wherever the browser is", async () => {
  const { page, context } = await visit(browser, "/usage", { key: KEYS.read });
  for (const timezone of ["Pacific/Kiritimati", "Pacific/Niue"]) {
    await page.route("**/api/v1/me", async (route) => {
      const answer = await route.fetch();
      await route.fulfill({ response: answer, json: { ...((await answer.json()) as object), timezone } });
    });
    await page.reload();
    await page.getByText(`Days are those of ${timezone}.`).waitFor();
    const today = new Intl.DateTimeFormat("sv-SE", { timeZone: timezone }).format(new Date());
    expect(await page.getByLabel("To", { exact: true }).inputValue()).toBe(today);
    await page.unroute("**/api/v1/me");
  }
  await context.close();
});

test("a slow API: a page says that it waits, gives up, and tries again when it is asked to", async () => {
  const { page, context } = await visit(browser, "/audit", { key: KEYS.admin });
  await settled(page);
  await page.clock.install();
  await page.route("**/api/v1/admin/**", () => undefined); // no answer ever
  for (const name of ["overview", "budgets", "keys", "usage", "calls", "providers", "adjustments"]) {
    await page.evaluate((path) => (window.location.hash = path), `/${name}`);
    await page.locator("main h1").waitFor();
    await page.locator(".loading").first().waitFor();
    await page.clock.fastForward(6_000);
    await page.getByText("Still waiting for the API. After 30 s it is given up.").first().waitFor();
    await page.clock.fastForward(25_000);
    await page.getByText("The API didn't answer within 30 s.").first().waitFor();
    await page.waitForFunction(() => document.querySelector(".loading") === null);
    await page.getByRole("button", { name: "Try again" }).first().waitFor();
  }
  await isAccessible(page);
  await page.unroute("**/api/v1/admin/**");
  await page.getByRole("button", { name: "Try again" }).click();
  await page.getByRole("cell", { name: "invoice 4711" }).waitFor();

  // What is shown already stays, and says how old it is; a change that was given up may have been made.
  await page.route("**/api/v1/admin/**", () => undefined);
  await page.getByRole("button", { name: "Book an adjustment" }).click();
  await page.getByRole("dialog").getByLabel("Amount in USD").fill("1");
  await page.getByRole("dialog").getByLabel("Reason").fill("slow");
  await page.getByRole("dialog").getByRole("button", { name: "Book an adjustment" }).click();
  await page.clock.fastForward(6_000);
  await page.getByRole("dialog").getByText("Still waiting for the API.").waitFor();
  await page.clock.fastForward(25_000);
  await page.getByRole("dialog").getByText("may have been done all the same").waitFor();
  await context.close();

  const entering = await visit(browser, "/");
  await entering.page.clock.install();
  await entering.page.route("**/api/v1/me", () => undefined);
  await entering.page.getByLabel("API key").fill(KEYS.admin);
  await entering.page.keyboard.press("Enter");
  await entering.page.clock.fastForward(6_000);
  await entering.page.getByText("Still waiting for the API.").waitFor();
  await entering.page.clock.fastForward(25_000);
  await entering.page.getByText("The API didn't answer within 30 s.").waitFor();
  await entering.context.close();
});
