// `make watch`: the development stack with Spotlight as its Sentry, and a few documents to look at, one of which times out.
// Usage: node deploy/spotlight/watch.mjs target/debug/registrar
import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { promisify } from 'node:util'
import { serveSpotlight } from './spotlight.mjs'

const PORT = 8969
const CASE = 'WATCH-1'
const CONFIRMED = [
  { file: 'README.md', user: 'user-1' },
  { file: 'Cargo.toml', user: 'user-2' },
  { file: 'Cargo.lock', user: 'user-2' },
]
const TIMES_OUT = { file: 'Makefile', user: 'user-3' }
const BLOCK_SECONDS = 1

const [registrar] = process.argv.slice(2)
const stopping = new AbortController()
const spotlight = await serveSpotlight(PORT)
const stack = startStack()
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) {
  process.on(signal, () => {
    stopping.abort()
    stack.child.kill(signal)
  })
}
try {
  await Promise.race([stack.ended, show()])
  process.exitCode = await stack.ended
} finally {
  stack.child.kill('SIGTERM')
  await stack.ended
  spotlight.close()
}

/** Starts `registrar dev`. `at` tells where its gRPC server and its chain listen, `ended` its exit code. */
function startStack() {
  const env = {
    ...process.env,
    SENTRY_DSN: spotlight.dsn,
    // A secret may not be given twice.
    SENTRY_DSN_FILE: '',
    // A chain counts as stalled after 10 seconds: the reason is known when this runs out.
    REGISTRAR_CONFIRMATION_TIMEOUT: '15s',
  }
  // A process group of its own: Ctrl-C reaches the whole group of a terminal, and a second signal would cut short its end.
  const child = spawn(registrar, ['dev', '--block-time', BLOCK_SECONDS], {
    env,
    detached: true,
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  const ended = once(child, 'exit').then(([code]) => code ?? 1)
  return { child, ended, at: whereItListens(child.stdout) }
}

/** Reads it from the screen of `registrar dev`, which goes on after it. */
async function whereItListens(screen) {
  const found = {}
  const lines = createInterface(screen)
  return new Promise(resolve => {
    lines.on('line', line => {
      const [label, address] = line.trim().split(/\s+/)
      if (label === 'gRPC') found.grpc = `http://${address}`
      if (label === 'chain') found.chain = address
      if (found.grpc && found.chain) resolve(found)
    })
  })
}

/** Registers the documents and says what to look at. Ends early, in silence, when the stack is told to end. */
async function show() {
  const at = await stack.at
  console.log(`Spotlight, a local Sentry: ${spotlight.url}\n`)
  if (spotlight.port !== PORT) console.log(`  (port ${PORT} is taken)\n`)
  try {
    for (const document of CONFIRMED) await register(document, at.grpc)
    await mineEvery(0, at.chain)
    console.log(`\n  The chain stands still for a while: ${TIMES_OUT.file} will time out.\n`)
    await register(TIMES_OUT, at.grpc)
    await mineEvery(BLOCK_SECONDS, at.chain)
  } catch (error) {
    if (stopping.signal.aborted) return
    throw error
  }
  console.log(whatToLookAt(at.grpc))
}

/** Registers a file by the public command line, and says in a line how that ended and where its trace is. */
async function register({ file, user }, grpc) {
  const words = ['register', file, '--case', CASE, '--user-id', user, '--server', grpc, '--json']
  const run = promisify(execFile)(registrar, words, { signal: stopping.signal })
  // An answer that is no success is an answer, too.
  const { stdout } = await run.catch(error => {
    if (error.stdout) return error
    throw error
  })
  const answer = JSON.parse(stdout)
  const { traceId, state } = answer.error?.registration ?? answer
  const outcome = answer.error ? `${answer.error.reason}, ${answer.error.metadata?.cause}` : state.replace('STATE_', '')
  console.log(`  ${file.padEnd(11)} ${outcome.padEnd(36)} ${spotlight.url}/telemetry/traces/${traceId}`)
}

/** Lets anvil mine a block every so many seconds; none at all with 0. */
async function mineEvery(seconds, chain) {
  const call = { jsonrpc: '2.0', id: 1, method: 'evm_setIntervalMining', params: [seconds] }
  const headers = { 'content-type': 'application/json' }
  const answer = await fetch(chain, { method: 'POST', headers, body: JSON.stringify(call), signal: stopping.signal })
  const { error } = await answer.json()
  if (error) throw new Error(`anvil does not take ${call.method}: ${error.message}`)
}

function whatToLookAt(grpc) {
  return `
The chain goes on. What to look at:

  Traces   RegisterDocument: grpc.server over blockchain.register over prepare, send and wait. Click a span for its data.
           Register Batch: what was asked of the chain and of the database for one transaction.
  Errors   TransactionTimeoutError: under Context, diagnosis says why; blockchain and rpc say what was sent, and to whom.
  Logs     warnings and errors, each in its trace.

Register a document of yours:

  ${registrar} register FILE --case MINE-1 --user-id me --server ${grpc}

Another service on this machine reports here with SENTRY_DSN=${spotlight.dsn}

Ctrl-C ends it; nothing of it stays.`
}
