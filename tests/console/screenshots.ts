/** Pictures of each page in both languages, of the company that `screenshots.py` serves. */
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { Page } from "playwright-core";
import { KEYS, URL_, launch, required, settled, visit } from "./browser.ts";

const OUT = required("CONSOLE_OUT");
const MAX_HEIGHT = 1300;
const QUALITY = 82;
const LANGUAGES = ["en", "ja"] as const;

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

const all = process.env["CONSOLE_ALL"] === "1";
const looks = all ? ([["light", 1280], ["dark", 1280], ["light", 390], ["dark", 390]] as const) : ([["light", 1280], ["dark", 390]] as const);
const browser = await launch();
try {
  for (const language of LANGUAGES)
    for (const [theme, width] of looks)
      for (const shot of all ? [...SHOTS, ...ALSO] : SHOTS) {
        if (!all && width < 600 && shot.name !== "overview") continue;
        const { page, context } = await visit(browser, shot.path, { ...(shot.key && { key: shot.key }), language, theme, width, scale: all ? 1 : 1.5 });
        if (shot.key) await settled(page);
        else await page.locator("form").waitFor();
        await shot.before?.(page);
        await take(page, width, all ? `${shot.name}.${language}.${theme}.${width}` : width < 600 ? `${shot.name}-phone.${language}` : `${shot.name}.${language}`);
        await context.close();
      }
} finally {
  await browser.close();
}
process.stdout.write(`${URL_} is written to ${OUT}\n`);
