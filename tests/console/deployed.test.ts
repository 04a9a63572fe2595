import { afterAll, beforeAll, expect, test } from "vitest";
import type { Browser } from "playwright-core";
import { KEYS, URL_, launch, required, settled, visit } from "./browser";

const API = required("CONSOLE_API");

let browser: Browser;
beforeAll(async () => {
  browser = await launch();
});
afterAll(() => browser.close());

test("a deployed page shows what the API of another origin has, and streams from it", async () => {
  const { page, context, complaints, origins } = await visit(browser, "/");
  await page.getByLabel("API key").fill(KEYS.admin);
  await page.keyboard.press("Enter");
  await page.getByRole("heading", { name: "Overview" }).waitFor();
  await settled(page);
  await page.goto(`${URL_}#/playground`);
  await page.getByLabel("Prompt", { exact: true }).fill("What is the capital of France?");
  await page.getByRole("button", { name: "Send" }).click();
  await page.getByText("Paris.").waitFor();
  await page.getByRole("link", { name: "Its entry in Calls" }).click();
  await page.locator(".timeline .badge.good").waitFor();
  // Before there is a key, the page asks whether one is needed.
  expect(complaints.filter((each) => !each.includes("401 (Unauthorized)"))).toEqual([]);
  expect([...origins].sort()).toEqual([new URL(URL_).origin, API].sort());
  await context.close();
});

test("the browser is told whom the page may call, and which files to keep", async () => {
  const { page, context } = await visit(browser, "/");
  const sent = new Map<string, Record<string, string>>();
  page.on("response", async (response) => sent.set(new URL(response.url()).pathname, await response.allHeaders()));
  await page.reload();
  await page.getByLabel("API key").waitFor();
  const index = sent.get("/");
  expect(index?.["cache-control"]).toBe("no-cache");
  expect(index?.["content-security-policy"]).toContain(`connect-src 'self' ${API};`);
  const assets = [...sent].filter(([path]) => path.startsWith("/assets/"));
  expect(assets.length).toBeGreaterThan(1);
  for (const [path, headers] of assets) expect(headers["cache-control"], path).toContain("immutable");
  await expect(page.evaluate(() => fetch("https://example.com/"))).rejects.toThrow();
  await context.close();
});

test("a path that isn't there is a 404 with a way to the console", async () => {
  const { page, context } = await visit(browser, "/");
  const answer = await page.goto(`${URL_}budgets/1`);
  expect(answer?.status()).toBe(404);
  await page.getByText("There is no such page here.").waitFor();
  await page.getByRole("link", { name: "The console" }).click();
  await page.getByLabel("API key").waitFor();
  await context.close();
});

test("a page of an origin that CORS_ORIGINS lacks says which setting, in both languages", async () => {
  const elsewhere = URL_.replace("localhost", "127.0.0.1");
  const origin = new URL(elsewhere).origin;
  for (const [language, says] of [
    ["en", `Add ${origin} to CORS_ORIGINS`],
    ["ja", `CORS_ORIGINS に ${origin} を追加してください`],
  ] as const) {
    const { page, context } = await visit(browser, "/", { language });
    await page.goto(elsewhere);
    await page.getByText(says).waitFor();
    await context.close();
  }
});

test("a page that was built for a wrong address says which variable", async () => {
  const { page, context } = await visit(browser, "/");
  await page.goto(`http://localhost:${required("CONSOLE_MISLED")}/`);
  await page.getByText(`There is no answer from ${required("CONSOLE_NOWHERE")}.`).waitFor();
  await page.getByText("NEXT_PUBLIC_API_URL").waitFor();
  await context.close();
});
