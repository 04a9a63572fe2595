import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    include: ["*.test.ts"],
    env: { NEXT_PUBLIC_API_URL: "http://localhost:8000/api/v1" }, // a window would say it
    testTimeout: 240_000,
    hookTimeout: 120_000,
    fileParallelism: false,
  },
});
