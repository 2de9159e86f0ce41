// Registers one document from Node and prints the outcome as one line of JSON.
//
// usage: node client.mjs SERVER PROTO_FOLDER REQUEST_JSON DEADLINE_SECONDS METADATA_JSON
//
// Plain grpc-js without a decoder for google.rpc details, so only the trailers are read.

import { createRequire } from "node:module";

const require = createRequire(import.meta.url);
const grpc = require("@grpc/grpc-js");
const loader = require("@grpc/proto-loader");

const [server, protoFolder, request, deadline, metadata] = process.argv.slice(2);

const definition = loader.loadSync("registrar/v1/registrar.proto", {
  includeDirs: [protoFolder],
  enums: String,
  longs: String,
});
const { RegistrarService } = grpc.loadPackageDefinition(definition).registrar.v1;
const client = new RegistrarService(server, grpc.credentials.createInsecure());

/** The text entries of a call's metadata. */
function textOf(...parts) {
  const text = {};
  for (const part of parts) {
    for (const [key, value] of Object.entries(part?.getMap() ?? {})) {
      if (typeof value === "string") text[key] = value;
    }
  }
  return text;
}

await new Promise((resolve, reject) =>
  client.waitForReady(Date.now() + 20_000, (error) => (error ? reject(error) : resolve())),
);

const sent = new grpc.Metadata();
for (const [key, value] of JSON.parse(metadata)) sent.add(key, value);

const started = performance.now();
const outcome = await new Promise((resolve) => {
  let headers;
  let answer;
  const call = client.RegisterDocument(
    JSON.parse(request),
    sent,
    { deadline: Date.now() + Number(deadline) * 1000 },
    (error, response) => (answer = { error, response }),
  );
  call.on("metadata", (metadata) => (headers = metadata));
  call.on("status", (status) =>
    setImmediate(() =>
      resolve({
        code: grpc.status[status.code],
        message: status.details,
        registration: answer?.response?.registration,
        metadata: textOf(headers, status.metadata),
      }),
    ),
  );
});
console.log(JSON.stringify({ ...outcome, seconds: (performance.now() - started) / 1000 }));
client.close();
