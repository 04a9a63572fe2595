/** Pictures of each page in both languages, of the company that `screenshots.py` serves. */
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { AxeBuilder } from "@axe-core/playwright";
import type { Page } from "playwright-core";
import { KEYS, URL_, launch, required, settled, visit } from "./browser.ts";

const OUT = required("CONSOLE_OUT");
const MAX_HEIGHT = 1300;
const QUALITY = 82;

interface Shot {
  name: string;
  path: string;
  key?: string;
  /** What is done on the page before. */
  before?: (page: Page) => Promise<void>;
}

const send = async (page: Page) => {
  await page.locator("textarea").last().fill("How can a budget be exceeded?");
  await page.locator("main form button.primary").click();
  await page.locator(".facts").waitFor();
};
const open = (selector: string) => async (page: Page) => {
  await page.locator(selector).first().click();
  await page.getByRole("dialog").waitFor();
};

const SHOTS: Shot[] = [
  { name: "overview", path: "/overview", key: KEYS.admin },
  { name: "budgets", path: "/budgets", key: KEYS.admin },
  { name: "keys", path: "/keys", key: KEYS.admin },
  { name: "key", path: `/keys/${required("CONSOLE_KEY")}`, key: KEYS.admin },
  { name: "usage", path: "/usage", key: KEYS.read },
  { name: "calls", path: "/calls", key: KEYS.read },
  { name: "call", path: `/calls/${required("CONSOLE_FAILED")}`, key: KEYS.read },
  { name: "providers", path: "/providers", key: KEYS.admin },
  { name: "audit", path: "/audit", key: KEYS.admin, before: (page) => page.locator("summary").first().click() },
  { name: "models", path: "/models", key: KEYS.admin },
  { name: "playground", path: "/playground", key: KEYS.admin, before: send },
  { name: "me", path: "/me", key: KEYS.plain },
  { name: "sign-in", path: "/" },
];
/** Not in the documentation, and looked at. */
const ALSO: Shot[] = [
  { name: "reset", path: "/budgets", key: KEYS.admin, before: open("main .row-actions button:nth-of-type(2)") },
  { name: "new-key", path: "/keys", key: KEYS.admin, before: open("main .head button.primary") },
  { name: "probe", path: "/providers", key: KEYS.admin, before: open("main .head button.primary") },
  { name: "none", path: "/calls?model=none", key: KEYS.read },
  { name: "missing", path: "/calls/none", key: KEYS.read },
];

async function take(page: Page, width: number, file: string): Promise<void> {
  const height = await page.evaluate(() => document.documentElement.scrollHeight);
  await page.setViewportSize({ width, height: Math.min(MAX_HEIGHT, Math.max(width > 600 ? 640 : 780, height)) });
  await page.evaluate(() => new Promise((done) => setTimeout(done, 200)));
  const session = await page.context().newCDPSession(page);
  const { data } = await session.send("Page.captureScreenshot", { format: "webp", quality: QUALITY });
  await writeFile(join(OUT, `${file}.webp`), Buffer.from(data, "base64"));
}

/** What axe finds, and what is wider than the page. */
async function judge(page: Page, name: string): Promise<void> {
  const { violations } = await new AxeBuilder({ page }).analyze();
  const wide = await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
  for (const { id, nodes } of violations) faults.push(`${name}: ${id}: ${nodes.map((node) => node.html.slice(0, 150)).join(" ")}`);
  if (wide > 0) faults.push(`${name}: ${wide} px too wide`);
}

const faults: string[] = [];
const all = process.env["CONSOLE_ALL"] === "1";
const LOOKS = all
  ? ([["en", "light", 1280], ["ja", "dark", 1280], ["en", "dark", 390], ["ja", "light", 390]] as const)
  : ([["en", "light", 1280], ["en", "dark", 390], ["ja", "light", 1280], ["ja", "dark", 390]] as const);
const browser = await launch();
try {
  for (const [language, theme, width] of LOOKS)
    for (const shot of all ? [...SHOTS, ...ALSO] : SHOTS) {
      const phone = width < 600;
      if (!all && phone && shot.name !== "overview") continue;
      const { page, context } = await visit(browser, shot.path, { ...(shot.key && { key: shot.key }), language, theme, width });
      await (shot.key ? settled(page) : page.locator("form").waitFor());
      await shot.before?.(page);
      if (all) await judge(page, `${shot.name} ${language} ${theme} ${width}`);
      await take(page, width, `${shot.name}${all ? `.${theme}.${width}` : phone ? "-phone" : ""}.${language}`);
      await context.close();
    }
} finally {
  await browser.close();
}
for (const fault of faults) process.stderr.write(`${fault}\n`);
process.exitCode = faults.length > 0 ? 1 : 0;
process.stdout.write(`${URL_} is written to ${OUT}\n`);
