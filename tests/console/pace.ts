/** How soon each page shows what the API answered: one JSON line for each page, for `benchmarks/console.py`. */
import { KEYS, launch, required, visit } from "./browser.ts";

const ROUNDS = Number(required("CONSOLE_ROUNDS"));
const PAGES = ["overview", "budgets", "keys", `keys/${required("CONSOLE_KEY")}`, "usage", "calls", `calls/${required("CONSOLE_FAILED")}`, "providers", "audit", "models"];

/** One request of a page; times in milliseconds since the page's start. */
interface Request {
  path: string;
  start: number;
  end: number;
  bytes: number;
}

/** Before the page's own scripts: notes when the page has its content, after the frame that draws it. */
function watch(): void {
  const noted = window as unknown as { content?: number };
  const look = () => {
    const main = document.querySelector("main");
    if (noted.content !== undefined || !main?.querySelector("h1") || document.querySelector(".loading")) return;
    requestAnimationFrame(() => setTimeout(() => (noted.content ??= performance.now())));
  };
  new MutationObserver(look).observe(document, { childList: true, subtree: true });
}

const browser = await launch();
try {
  for (const name of PAGES) {
    const rounds: { content: number; requests: Request[] }[] = [];
    for (let round = 0; round < ROUNDS; round += 1) {
      const { page, context } = await visit(browser, `/${name}`, { key: KEYS.admin, before: watch });
      await page.waitForFunction(() => "content" in window, undefined, { timeout: 60_000 });
      rounds.push(
        await page.evaluate(() => ({
          content: (window as unknown as { content: number }).content,
          requests: (performance.getEntriesByType("resource") as PerformanceResourceTiming[])
            .filter((entry) => entry.name.includes("/api/"))
            .map((entry) => ({ path: entry.name.replace(/^.*\/api\/v1/, ""), start: entry.startTime, end: entry.responseEnd, bytes: entry.decodedBodySize })),
        })),
      );
      await context.close();
    }
    process.stdout.write(`${JSON.stringify({ page: name.replace(/\/.*/, "/{id}"), rounds })}\n`);
  }
} finally {
  await browser.close();
}
