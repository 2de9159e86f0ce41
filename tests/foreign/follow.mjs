import { existsSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { setTimeout as sleep } from "node:timers/promises";

const require = createRequire(import.meta.url);
const grpc = require("@grpc/grpc-js");
const loader = require("@grpc/proto-loader");

const [server, protoFolder, file] = process.argv.slice(2);
const options = { includeDirs: [protoFolder], enums: String, longs: Number, oneofs: true };
const definition = loader.loadSync("registrar/v1/registrar.proto", options);
const { RegistrarService } = grpc.loadPackageDefinition(definition).registrar.v1;
// A server that does not answer a ping for 10 s is gone.
const keepalive = { "grpc.keepalive_time_ms": 30_000, "grpc.keepalive_timeout_ms": 10_000 };

const empty = () => ({ cursor: "", documents: {} });
let store = existsSync(file) ? JSON.parse(readFileSync(file)) : empty();

/** In one step: the work, and the cursor from which to continue. */
function save() {
  writeFileSync(`${file}.new`, JSON.stringify(store));
  renameSync(`${file}.new`, file);
}

/** May be called twice for one change: it replaces what is older. */
function handle({ id, revision, state }) {
  if (!(store.documents[id]?.revision > revision)) store.documents[id] = { revision, state };
}

/** Reads until the stream ends, and returns why. */
function follow(client) {
  return new Promise((resolve) => {
    const request = store.cursor ? { afterCursor: store.cursor } : { fromBeginning: true };
    const stream = client.WatchChanges(request);
    stream.on("data", ({ cursor, registration }) => {
      if (registration) handle(registration);
      store.cursor = cursor;
      save();
    });
    stream.on("error", resolve);
    stream.on("end", () => resolve({ code: grpc.status.UNAVAILABLE }));
  });
}

for (;;) {
  const client = new RegistrarService(server, grpc.credentials.createInsecure(), keepalive);
  const error = await follow(client);
  client.close();
  const [reason] = error.metadata?.get("x-error-reason") ?? [];
  if (reason === "CURSOR_FOREIGN") {
    // A backup was restored, or it is another database: what is stored is void.
    store = empty();
    save();
  } else if (![grpc.status.UNAVAILABLE, grpc.status.RESOURCE_EXHAUSTED].includes(error.code)) {
    throw error;
  }
  console.log("reconnecting:", grpc.status[error.code], reason ?? "");
  await sleep(1000);
}
