// node judge.mjs FOLDER: what the published tools say of FOLDER/asyncapi.yaml and FOLDER/schemas/*.json.
// On standard input: [[schema, payload], …]. On standard output: {diagnostics, schemas, verdicts}.
import { readdirSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";

const require = createRequire(import.meta.url);
const { Parser, fromFile } = require("@asyncapi/parser");
const Ajv = require("ajv/dist/2020").default;
const formats = require("ajv-formats").default;

const folder = process.argv[2];
const { document, diagnostics } = await fromFile(new Parser(), `${folder}/asyncapi.yaml`).parse();

const ajv = new Ajv({ strict: true, strictRequired: false, allowUnionTypes: true, allErrors: true });
formats(ajv);
const judges = {};
for (const file of readdirSync(`${folder}/schemas`).sort()) {
  judges[file.replace(/\.json$/, "")] = ajv.compile(JSON.parse(readFileSync(`${folder}/schemas/${file}`, "utf8")));
}
const verdicts = JSON.parse(readFileSync(0, "utf8")).map(([name, payload]) => judges[name](payload));

process.stdout.write(
  JSON.stringify({
    diagnostics: diagnostics.map(({ severity, code, message, path }) => ({ severity, code, message, path: path.join("/") })),
    operations: document ? document.operations().all().map((one) => `${one.action()} ${one.channels().all()[0].address()}`) : [],
    schemas: Object.keys(judges),
    verdicts,
  }),
);
