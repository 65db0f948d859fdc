// Build the page into jobs/view/static: one script, one more for bundles, one style sheet, the fonts of formulas. The same sources give the same bytes.
import { cp, mkdir, readFile, readdir, rm, writeFile } from "node:fs/promises";
import { build } from "esbuild";

const out = process.argv[2] || "../../jobs/view/static";
await rm(out, { recursive: true, force: true });
await mkdir(out, { recursive: true });
await build({
  entryPoints: [{ in: "src/main.js", out: "main" }, { in: "src/bundle/main.js", out: "bundle" }],
  outdir: out,
  bundle: true,
  minify: true,
  format: "iife",
  target: ["es2022"],
  charset: "utf8",
  legalComments: "eof",
  loader: { ".woff2": "file", ".woff": "empty", ".ttf": "empty" },
  assetNames: "[name]",
  logLevel: "warning",
});
await cp("src/index.html", `${out}/index.html`);

const { dependencies } = JSON.parse(await readFile("package.json", "utf8"));
const licences = [];
for (const name of Object.keys(dependencies).sort()) {
  const folder = `node_modules/${name}`;
  const found = (await readdir(folder)).filter((file) => /^licen[cs]e/i.test(file)).sort();
  const { version, license } = JSON.parse(await readFile(`${folder}/package.json`, "utf8"));
  const text = found.length ? await readFile(`${folder}/${found[0]}`, "utf8") : `Licence: ${license}\n`;
  licences.push(`${name} ${version}\n\n${text.trim()}\n`);
}
await writeFile(`${out}/licences.txt`, licences.join(`\n${"-".repeat(80)}\n\n`));
