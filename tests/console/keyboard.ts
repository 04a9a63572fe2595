/** Somebody without a mouse: keys alone, who sees at each stop where the focus is. */
import type { Page } from "playwright-core";
import { expect } from "vitest";

const MAX_STOPS = 120;

/** What has the focus, and whether it can be seen. */
function focused(page: Page): Promise<{ name: string; visible: boolean; covered: boolean; tag: string }> {
  return page.evaluate(() => {
    const at = document.activeElement as HTMLElement;
    const { outlineStyle, outlineWidth } = getComputedStyle(at);
    const box = at.getBoundingClientRect();
    const top = document.elementFromPoint(box.left + Math.min(box.width / 2, 20), box.top + Math.min(box.height / 2, 20));
    const labels = "labels" in at ? [...((at as HTMLInputElement).labels ?? [])].map((label) => label.textContent) : [];
    return {
      name: (at.getAttribute("aria-label") ?? labels[0] ?? at.textContent ?? "").trim(),
      visible: outlineStyle !== "none" && parseFloat(outlineWidth) > 0 && box.width > 0 && box.height > 0,
      covered: !(top && (at.contains(top) || top.contains(at))),
      tag: at.tagName.toLowerCase(),
    };
  });
}

/** Tab until something of this name has the focus. Each stop on the way must be seen. */
export async function reach(page: Page, name: string | RegExp, key: "Tab" | "Shift+Tab" = "Tab"): Promise<void> {
  const passed: string[] = [];
  for (let stop = 0; stop < MAX_STOPS; stop += 1) {
    await page.keyboard.press(key);
    const now = await focused(page);
    if (now.tag === "body" || now.tag === "main") continue; // the browser's own; the page, which has it after a link
    passed.push(now.name.slice(0, 40));
    expect(now, `after ${passed.join(" | ")}`).toMatchObject({ visible: true, covered: false });
    if (typeof name === "string" ? now.name === name : name.test(now.name)) return;
  }
  throw new Error(`${String(name)} can't be reached: ${passed.join(" | ")}`);
}

/** That Tab goes round within the dialog; and that Escape closes it, and the focus is back where it was. */
export async function trapped(page: Page, opener: string): Promise<void> {
  const dialog = page.getByRole("dialog");
  await dialog.waitFor();
  const stops = await dialog.locator("input, select, textarea, button:enabled").count();
  for (let stop = 0; stop < stops + 3; stop += 1) {
    await page.keyboard.press("Tab");
    expect(await dialog.evaluate((element) => element.contains(document.activeElement) || document.activeElement?.hasAttribute("data-base-ui-focus-guard"))).toBe(true);
  }
  await page.keyboard.press("Escape");
  await dialog.waitFor({ state: "detached" });
  await expect.poll(async () => (await focused(page)).name).toBe(opener);
}
