// Checks manifests against the schemas of Kubernetes' OpenAPI (kubernetes-models carries those of 1.33 as validators). Reads YAML from
// standard input; writes a line per mistake, and at the end how many objects there were. Exit status 1 when there was a mistake.
// Keeps: a field that the schema does not know is a mistake, as it is to `kubectl apply --validate=strict`; so is an object without one.
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { parseAllDocuments } from "yaml";

const require = createRequire(import.meta.url);
// By their files: the package does not export them by name.
const schemas = join(dirname(require.resolve("kubernetes-models")), "_schemas");

// The validators say nothing of fields they do not know: they never look at them. This notes what was looked at.
function watched(value, seen, path) {
    if (value === null || typeof value !== "object") return value;
    return new Proxy(value, {
        get(target, key) {
            const inner = target[key];
            if (typeof key !== "string" || !Object.hasOwn(target, key)) return inner;
            seen.add(`${path}/${key}`);
            return watched(inner, seen, `${path}/${key}`);
        },
    });
}

function* unseen(value, seen, path) {
    if (value === null || typeof value !== "object") return;
    for (const [key, inner] of Object.entries(value)) {
        if (seen.has(`${path}/${key}`)) yield* unseen(inner, seen, `${path}/${key}`);
        else yield `${path}/${key}`;
    }
}

function validatorOf(object) {
    const { apiVersion, kind } = object;
    if (typeof apiVersion !== "string" || !/^[A-Za-z]+$/.test(kind ?? "")) return null;
    const [group, version] = apiVersion.includes("/") ? apiVersion.split("/") : ["core", apiVersion];
    const part = (text) => text.replace(/(^|[.-])([a-z])/g, (_, __, letter) => letter.toUpperCase());
    // apps/v1 is io.k8s.api.apps.v1, networking.k8s.io/v1 is io.k8s.api.networking.v1.
    const name = `IoK8sApi${part(group.replace(/\.(authorization\.)?k8s\.io$/, ""))}${part(version)}${kind}`;
    try {
        return require(join(schemas, `${name}.js`)).validate;
    } catch (error) {
        if (error.code === "MODULE_NOT_FOUND") return null;
        throw error;
    }
}

const chunks = [];
for await (const chunk of process.stdin) chunks.push(chunk);
let objects = 0;
let mistakes = 0;
const mistake = (where, what) => {
    mistakes++;
    console.log(`${where}: ${what}`);
};
for (const document of parseAllDocuments(Buffer.concat(chunks).toString("utf8"), { uniqueKeys: true })) {
    for (const error of document.errors) mistake("YAML", error.message.split("\n")[0]);
    if (document.errors.length > 0) continue;
    const object = document.toJS();
    if (object === null) continue;
    objects++;
    const where = `${object.kind} ${object.metadata?.name}`;
    const validate = validatorOf(object);
    if (!validate) {
        mistake(where, `there is no schema of ${object.kind} in ${object.apiVersion}`);
        continue;
    }
    const seen = new Set();
    if (!validate(watched(object, seen, ""))) {
        for (const { instancePath, params, keyword } of validate.errors)
            mistake(where, `${instancePath || "/"} ${JSON.stringify(params)} (${keyword})`);
    }
    for (const path of unseen(object, seen, "")) mistake(where, `${path} is no field of it`);
}
console.log(`${objects} objects, ${mistakes} mistakes`);
process.exit(mistakes > 0 || objects === 0 ? 1 : 0);
