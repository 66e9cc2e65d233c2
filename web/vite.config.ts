import react from "@vitejs/plugin-react";
import { readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { brotliCompressSync, constants, gzipSync } from "node:zlib";
import { defineConfig, type Plugin } from "vite";

const page = resolve(import.meta.dirname, "../src/narf/control/page");

/** Write each text asset compressed too, once, so that the server never compresses at run time. */
function compressed(): Plugin {
  const walk = (folder: string): string[] =>
    readdirSync(folder).flatMap((name) => {
      const path = join(folder, name);
      return statSync(path).isDirectory() ? walk(path) : [path];
    });
  return {
    name: "compressed",
    apply: "build",
    closeBundle() {
      for (const path of walk(page)) {
        if (!/\.(js|css|svg)$/.test(path)) continue;
        const bytes = readFileSync(path);
        if (bytes.length < 1024) continue;
        writeFileSync(`${path}.br`, brotliCompressSync(bytes, { params: { [constants.BROTLI_PARAM_QUALITY]: 11 } }));
        writeFileSync(`${path}.gz`, gzipSync(bytes, { level: 9 }));
      }
    },
  };
}

export default defineConfig({
  plugins: [react(), compressed()],
  resolve: { alias: { "~": resolve(import.meta.dirname, "src") } },
  build: { outDir: page, emptyOutDir: true, target: "es2023", assetsInlineLimit: 0, cssCodeSplit: true, reportCompressedSize: false, modulePreload: { polyfill: false } },
  server: { proxy: { "/api": { target: process.env["NARF_URL"] ?? "http://127.0.0.1:8321", ws: true } } },
});
