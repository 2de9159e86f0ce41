// Compiles src/DocumentRegistry.sol to artifact/DocumentRegistry.json, and writes beside it where the contract stores
// what (storage-layout.json) and what an explorer needs to verify the source (standard-input.json).
//
// The result depends only on the sources and on the pinned compiler: source units are named by their path relative to
// this folder or by their import path, and the metadata in the bytecode has no hash of the sources.

import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const USAGE = `Usage: node build.mjs [--check]

Compiles src/DocumentRegistry.sol and writes the files in artifact/.

  --check  write nothing; exit 1 when a file is not what the sources compile to
  --help   print this text
`;

const EX_USAGE = 64;

const require = createRequire(import.meta.url);
const root = dirname(fileURLToPath(import.meta.url));

const CONTRACT = "DocumentRegistry";
const SOURCE = `src/${CONTRACT}.sol`;
const ARTIFACT = `artifact/${CONTRACT}.json`;
/** Where the contract stores what, as the compiler says. Certificates depend on it. */
const STORAGE_LAYOUT = "artifact/storage-layout.json";
/** Every source and setting in one file, for the verification of the source on explorers. */
const STANDARD_INPUT = "artifact/standard-input.json";
const SOLC_VERSION = "0.8.37";

const SETTINGS = {
  evmVersion: "cancun",
  metadata: { bytecodeHash: "none" },
  optimizer: { enabled: true, runs: 10_000 },
  viaIR: true,
};

/** An error whose message is for the user and needs no stack trace. */
class BuildError extends Error {}

/** Returns the text of a source unit: one of this folder or, for a scoped name, one of an installed package. */
function readSource(name) {
  return readFileSync(name.startsWith("@") ? require.resolve(name) : join(root, name), "utf8");
}

/** Compiles a standard JSON input. A warning fails it as an error does. */
function compile(solc, input, findImport) {
  const output = JSON.parse(solc.compile(JSON.stringify(input), findImport && { import: findImport }));
  const problems = output.errors ?? [];
  if (problems.length > 0) {
    throw new BuildError(problems.map((problem) => problem.formattedMessage.trimEnd()).join("\n"));
  }
  return output;
}

function findImport(name) {
  try {
    return { contents: readSource(name) };
  } catch (error) {
    return { error: error.message };
  }
}

/** The layout without the compiler's ids of the syntax tree, which change with unrelated code. */
function plainLayout({ storage, types }) {
  const plain = ({ label, offset, slot, type }) => ({ label, offset, slot, type: plainType(type) });
  const type = ({ label, encoding, numberOfBytes, key, value, members }) => ({
    label,
    encoding,
    numberOfBytes,
    key: key && plainType(key),
    value: value && plainType(value),
    members: members?.map(plain),
  });
  const entries = Object.entries(types).map(([name, described]) => [plainType(name), type(described)]);
  return { storage: storage.map(plain), types: Object.fromEntries(entries) };
}

function plainType(name) {
  return name.replaceAll(/(t_struct\([A-Za-z]+\))\d+/g, "$1");
}

/** Returns the text of each file by its path. */
function build() {
  const solc = require("solc");
  const compiler = solc.version();
  if (!compiler.startsWith(`${SOLC_VERSION}+`)) {
    throw new BuildError(`solc ${SOLC_VERSION} is required, ${compiler} is installed; run "npm ci"`);
  }

  const outputs = ["abi", "evm.bytecode.object", "evm.deployedBytecode.object", "storageLayout"];
  const settings = { ...SETTINGS, outputSelection: { [SOURCE]: { [CONTRACT]: outputs } } };
  const input = { language: "Solidity", sources: { [SOURCE]: { content: readSource(SOURCE) } }, settings };
  const output = compile(solc, input, findImport);
  const { abi, evm, storageLayout } = output.contracts[SOURCE][CONTRACT];

  // The same with every imported source in it, as an explorer compiles it.
  const sources = Object.keys(output.sources).sort();
  const standard = { ...input, sources: Object.fromEntries(sources.map((name) => [name, { content: readSource(name) }])) };
  const again = compile(solc, standard).contracts[SOURCE][CONTRACT];
  if (again.evm.bytecode.object !== evm.bytecode.object) {
    throw new BuildError(`${STANDARD_INPUT} would compile to other bytecode than ${ARTIFACT} has`);
  }

  const artifact = {
    contractName: CONTRACT,
    compiler,
    settings: SETTINGS,
    abi,
    bytecode: `0x${evm.bytecode.object}`,
    deployedBytecode: `0x${evm.deployedBytecode.object}`,
  };
  const text = (value) => `${JSON.stringify(value, null, 2)}\n`;
  return {
    [ARTIFACT]: text(artifact),
    [STORAGE_LAYOUT]: text(plainLayout(storageLayout)),
    [STANDARD_INPUT]: text(standard),
  };
}

/** Writes the files. */
function write() {
  for (const [name, text] of Object.entries(build())) {
    const path = join(root, name);
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, text);
    console.log(`wrote ${name}`);
  }
}

/** Fails unless each file is what the sources compile to. */
function check() {
  for (const [name, text] of Object.entries(build())) {
    let present;
    try {
      present = readFileSync(join(root, name), "utf8");
    } catch (error) {
      if (error.code !== "ENOENT") throw error;
      throw new BuildError(`${name} is missing; run "npm run build" and commit it`);
    }
    if (present !== text) {
      throw new BuildError(`${name} is not what the sources compile to; run "npm run build" and commit it`);
    }
    console.log(`${name} is up to date`);
  }
}

function main(args) {
  if (args.length === 1 && args[0] === "--help") {
    process.stdout.write(USAGE);
    return 0;
  }
  if (args.length > 1 || (args.length === 1 && args[0] !== "--check")) {
    process.stderr.write(USAGE);
    return EX_USAGE;
  }
  try {
    if (args[0] === "--check") check();
    else write();
    return 0;
  } catch (error) {
    if (!(error instanceof BuildError)) throw error;
    console.error(`error: ${error.message}`);
    return 1;
  }
}

process.exitCode = main(process.argv.slice(2));
