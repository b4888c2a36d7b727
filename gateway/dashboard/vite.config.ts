import { defineConfig } from "vitest/config";

// `HUNHE_URL` lets `npm run dev` work against a running gateway.
const gateway = process.env["HUNHE_URL"] ?? "http://127.0.0.1:8480";

export default defineConfig({
  server: { host: "127.0.0.1", proxy: { "/api": gateway }, fs: { allow: [".", "../../seeds/city"] } },
  build: {
    // No file inlined as data: the page's content policy allows none but images.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    chunkSizeWarningLimit: 800,
  },
  test: { include: ["src/**/*.test.ts"] },
});
