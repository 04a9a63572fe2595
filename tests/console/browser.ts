/** A real Chromium: Debian's package where it is installed, else the one of an npm package. */
import { existsSync } from "node:fs";
import packaged from "@sparticuz/chromium";
import { chromium, type Browser, type BrowserContext, type Page } from "playwright-core";

const DEBIANS = "/usr/bin/chromium";
const PATIENCE = 30_000;

export const URL_ = required("CONSOLE_URL");
export const KEYS = { admin: required("CONSOLE_ADMIN"), read: required("CONSOLE_READ"), plain: required("CONSOLE_PLAIN"), bound: required("CONSOLE_BOUND") };

export function required(name: string): string {
  const value = process.env[name];
  if (!value) throw new Error(`${name} is missing: \`make console-test\` sets it.`);
  return value;
}

export async function launch(): Promise<Browser> {
  const own = existsSync(DEBIANS);
  return chromium.launch({
    executablePath: own ? DEBIANS : await packaged.executablePath(),
    args: ["--no-sandbox", "--disable-dev-shm-usage"],
    headless: true,
  });
}

export interface Visit {
  page: Page;
  context: BrowserContext;
  /** What the browser complained of. */
  complaints: string[];
  /** The origins that were asked. */
  origins: Set<string>;
}

interface Options {
  key?: string;
  language?: "en" | "ja";
  theme?: "light" | "dark";
  width?: number;
  /** Runs in each page before its own scripts. */
  before?: () => void;
}

export async function visit(browser: Browser, path: string, { key, language = "en", theme = "light", width = 1280, before }: Options = {}): Promise<Visit> {
  const context = await browser.newContext({ viewport: { width, height: 900 }, reducedMotion: "reduce", acceptDownloads: true, timezoneId: "UTC", locale: language === "ja" ? "ja-JP" : "en-US" });
  context.setDefaultTimeout(PATIENCE);
  await context.addInitScript(
    ([secret, tongue, look]) => {
      if (secret && !sessionStorage.getItem("entered")) sessionStorage.setItem("fusewire.key", secret);
      sessionStorage.setItem("entered", "once");
      localStorage.setItem("fusewire.language", tongue ?? "en");
      localStorage.setItem("fusewire.theme", look ?? "light");
    },
    [key ?? "", language, theme],
  );
  if (before) await context.addInitScript(before);
  const page = await context.newPage();
  const complaints: string[] = [];
  const origins = new Set<string>();
  page.on("console", (message) => message.type() !== "info" && complaints.push(`${message.type()}: ${message.text()}`));
  page.on("pageerror", (error) => complaints.push(error.message));
  page.on("request", (request) => request.url().startsWith("http") && origins.add(new URL(request.url()).origin));
  await page.goto(`${URL_}#${path}`);
  return { page, context, complaints, origins };
}

/** Until a page has its content. */
export async function settled(page: Page): Promise<void> {
  await page.locator("main h1").waitFor();
  await page.waitForFunction(() => document.querySelector(".loading") === null);
}
