import react from "@vitejs/plugin-react";
import { defineConfig, loadEnv } from "vite";

const PREFIX = "NEXT_PUBLIC_";

/** The policy that the page carries wherever it is served. `frame-ancestors` needs a header: who serves it adds that. */
function policy(api: string | undefined): string {
  const origin = api ? ` ${new URL(api).origin}` : "";
  return [
    "default-src 'none'",
    "script-src 'self'",
    "style-src 'self'",
    "img-src 'self' data:",
    `connect-src 'self'${origin}`,
    "base-uri 'none'",
    "form-action 'none'",
    "require-trusted-types-for 'script'",
  ].join("; ");
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
