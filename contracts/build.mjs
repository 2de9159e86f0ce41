// Compiles src/DocumentRegistry.sol to artifact/DocumentRegistry.json.
//
// The result depends only on the sources and on the pinned compiler: source units are named by their path relative to
// this folder or by their import path, and the metadata in the bytecode has no hash of the sources.

import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const USAGE = `Usage: node build.mjs [--check]

Compiles src/DocumentRegistry.sol and writes artifact/DocumentRegistry.json.

  --check  write nothing; exit 1 when the artifact is not what the sources compile to
  --help   print this text
`;

const EX_USAGE = 64;

const require = createRequire(import.meta.url);
const root = dirname(fileURLToPath(import.meta.url));

const CONTRACT = "DocumentRegistry";
const SOURCE = `src/${CONTRACT}.sol`;
const ARTIFACT = `artifact/${CONTRACT}.json`;
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

/** Compiles the contract and returns the text of its artifact. */
function compile() {
  const solc = require("solc");
  const compiler = solc.version();
  if (!compiler.startsWith(`${SOLC_VERSION}+`)) {
    throw new BuildError(`solc ${SOLC_VERSION} is required, ${compiler} is installed; run "npm ci"`);
  }

  const input = {
    language: "Solidity",
    sources: { [SOURCE]: { content: readSource(SOURCE) } },
    settings: {
      ...SETTINGS,
      outputSelection: { [SOURCE]: { [CONTRACT]: ["abi", "evm.bytecode.object", "evm.deployedBytecode.object"] } },
    },
  };
  const findImport = (name) => {
    try {
      return { contents: readSource(name) };
    } catch (error) {
      return { error: error.message };
    }
  };
  const output = JSON.parse(solc.compile(JSON.stringify(input), { import: findImport }));

  // A warning fails the build as an error does.
  const problems = output.errors ?? [];
  if (problems.length > 0) {
    throw new BuildError(problems.map((problem) => problem.formattedMessage.trimEnd()).join("\n"));
  }

  const { abi, evm } = output.contracts[SOURCE][CONTRACT];
  const artifact = {
    contractName: CONTRACT,
    compiler,
    settings: SETTINGS,
    abi,
    bytecode: `0x${evm.bytecode.object}`,
    deployedBytecode: `0x${evm.deployedBytecode.object}`,
  };
  return `${JSON.stringify(artifact, null, 2)}\n`;
}

/** Writes the artifact. */
function build() {
  const path = join(root, ARTIFACT);
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, compile());
  console.log(`wrote ${ARTIFACT}`);
}

/** Fails unless the artifact is what the sources compile to. */
function check() {
  let present;
  try {
    present = readFileSync(join(root, ARTIFACT), "utf8");
  } catch (error) {
    if (error.code !== "ENOENT") throw error;
    throw new BuildError(`${ARTIFACT} is missing; run "npm run build" and commit it`);
  }
  if (present !== compile()) {
    throw new BuildError(`${ARTIFACT} is not what the sources compile to; run "npm run build" and commit it`);
  }
  console.log(`${ARTIFACT} is up to date`);
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
    else build();
    return 0;
  } catch (error) {
    if (!(error instanceof BuildError)) throw error;
    console.error(`error: ${error.message}`);
    return 1;
  }
}

process.exitCode = main(process.argv.slice(2));
