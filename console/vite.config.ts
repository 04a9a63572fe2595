import { readFileSync } from "node:fs";
import react from "@vitejs/plugin-react";
import { defineConfig, loadEnv } from "vite";

const PREFIX = "NEXT_PUBLIC_";

/**
 * The policy that the page carries wherever it is served; policy.json is what servers send as a header. `frame-ancestors`
 * has no meaning in a page.
 */
function policy(api: string | undefined): string {
  const parts = JSON.parse(readFileSync(new URL("policy.json", import.meta.url), "utf8")) as string[];
  return parts
    .filter((part) => !part.startsWith("frame-ancestors "))
    .map((part) => (api && part.startsWith("connect-src ") ? `${part} ${new URL(api).origin}` : part))
    .join("; ");
}

export default defineConfig(({ mode, command }) => ({
  base: "./",
  envPrefix: PREFIX,
  plugins: [
    react(),
    {
      name: "content-security-policy",
      transformIndexHtml: () =>
        command === "build"
          ? [
              {
                tag: "meta",
                injectTo: "head-prepend" as const,
                attrs: {
                  "http-equiv": "Content-Security-Policy",
                  content: policy(loadEnv(mode, process.cwd(), PREFIX)["NEXT_PUBLIC_API_URL"]),
                },
              },
            ]
          : [],
    },
  ],
  build: { target: "es2024", assetsInlineLimit: 0, modulePreload: { polyfill: false }, sourcemap: false },
}));
