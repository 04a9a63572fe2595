/**
 * Writes src/api/schema.d.ts and src/api/integers.ts from the OpenAPI document on standard input: `make console-api`.
 *
 * Only the routes that the console calls, and the schemas that they refer to. A JSON number is a `Decimal`, the text
 * that the API wrote, where its schema says `number`, and a JavaScript number where it says `integer`.
 */
import { createHash } from "node:crypto";
import { writeFileSync } from "node:fs";
import { text as read } from "node:stream/consumers";
import openapiTS, { astToString } from "openapi-typescript";
import ts from "typescript";

const USED = /^\/api\/v1\/(admin\/(?!prices|allowances)|me(\/usage)?$|models$|health$)/;
const text = await read(process.stdin);
const whole = JSON.parse(text);
const schemas = {};

/** Take the schema, and those that it refers to. */
function keep(value) {
  if (Array.isArray(value)) value.forEach(keep);
  else if (value && typeof value === "object") {
    for (const [name, each] of Object.entries(value)) {
      if (name !== "$ref") keep(each);
      else if (each.startsWith("#/components/schemas/")) {
        const schema = each.slice("#/components/schemas/".length);
        if (!(schema in schemas)) keep((schemas[schema] = whole.components.schemas[schema]));
      }
    }
  }
}

/** The names of properties whose numbers are of this type, arrays' and maps' included. */
function named(type, value, name, found = new Set()) {
  if (Array.isArray(value)) value.forEach((each) => named(type, each, name, found));
  else if (value && typeof value === "object") {
    if (value.type === type && name !== undefined) found.add(name);
    for (const [key, each] of Object.entries(value)) {
      if (key === "properties") for (const [own, schema] of Object.entries(each)) named(type, schema, own, found);
      else named(type, each, ["anyOf", "oneOf", "allOf", "items", "additionalProperties"].includes(key) ? name : undefined, found);
    }
  }
  return found;
}

/** Without what no program needs. */
function bare(value) {
  if (Array.isArray(value)) return value.map(bare);
  if (!value || typeof value !== "object") return value;
  return Object.fromEntries(
    Object.entries(value)
      .filter(([name, each]) => !(["title", "description"].includes(name) && typeof each === "string"))
      .filter(([name, each]) => !(name === "headers" && each["x-request-id"])) // which nobody reads by its type
      .filter(([name]) => name !== "text/csv") // which is passed on as it is
      .map(([name, each]) => [name, bare(each)]),
  );
}

const paths = Object.fromEntries(Object.entries(whole.paths).filter(([path]) => USED.test(path)));
keep(paths);
const integers = named("integer", schemas);
const both = [...named("number", schemas)].filter((name) => integers.has(name));
if (both.length) throw new Error(`Both integers and decimals, so that answers can't be read by names: ${both.join(", ")}`);

const document = bare({ ...whole, paths, components: { ...whole.components, schemas } });
const ast = await openapiTS(document, {
  defaultNonNullable: false,
  inject: 'import type { Decimal } from "./exact";\n',
  transform: (schema) => {
    if (schema.type === "number") return ts.factory.createTypeReferenceNode("Decimal");
    return undefined;
  },
});
const made = createHash("sha256").update(text).digest("hex");
const head = `// Made by \`make console-api\` of the OpenAPI document with this SHA-256: ${made}\n`;
writeFileSync(new URL("../src/api/schema.d.ts", import.meta.url), head + astToString(ast).replace(/^\s*\/\*\* @description .*\n/gm, ""));
const list = [...integers].sort().map((name) => `  ${JSON.stringify(name)},\n`).join("");
writeFileSync(
  new URL("../src/api/integers.ts", import.meta.url),
  `${head}\n/** The properties whose numbers are integers; all others are exact decimals. */\nexport const INTEGERS: ReadonlySet<string> = new Set([\n${list}]);\n`,
);
