// `make watch`: the development stack with Spotlight as its Sentry, and four registrations, one of which times out.
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

/** Starts `registrar dev`. `at` resolves to the addresses of gRPC server, operator page and chain, `ended` to the exit code. */
function startStack() {
  const env = {
    ...process.env,
    SENTRY_DSN: spotlight.dsn,
    // A variable and its `_FILE` may not both be set.
    SENTRY_DSN_FILE: '',
    // A chain counts as stalled after 10 seconds: the reason is known when this runs out.
    REGISTRAR_CONFIRMATION_TIMEOUT: '15s',
    REGISTRAR_TRACE_URL: `${spotlight.url}/telemetry/traces/{trace_id}`,
  }
  // A process group of its own: Ctrl-C reaches the whole group of a terminal, and a second signal would cut short its
  // end.
  const child = spawn(registrar, ['dev', '--block-time', BLOCK_SECONDS], {
    env,
    detached: true,
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  const ended = once(child, 'exit').then(([code]) => code ?? 1)
  return { child, ended, at: whereItListens(child.stdout) }
}

/** Reads the addresses from the output of `registrar dev`, which continues afterwards. */
async function whereItListens(screen) {
  const found = {}
  const lines = createInterface(screen)
  return new Promise(resolve => {
    lines.on('line', line => {
      const [label, address] = line.trim().split(/\s+/)
      if (label === 'gRPC') found.grpc = `http://${address}`
      if (label === 'operators') found.page = address
      if (label === 'chain') found.chain = address
      if (found.grpc && found.chain) resolve(found)
    })
  })
}

/** Registers the documents and prints what to look at. Ends early and silently when the stack is stopped. */
async function show() {
  const at = await stack.at
  console.log(`Spotlight, a local Sentry: ${spotlight.url}`)
  // REGISTRAR_UI may be off.
  console.log(at.page ? `The operator page:         ${at.page}\n` : '')
  if (spotlight.port !== PORT) console.log(`  (port ${PORT} is taken)\n`)
  try {
    for (const document of CONFIRMED) await register(document, at)
    await mineEvery(0, at.chain)
    console.log(`\n  The chain is stopped: ${TIMES_OUT.file} will time out.\n`)
    await register(TIMES_OUT, at)
    await mineEvery(BLOCK_SECONDS, at.chain)
  } catch (error) {
    if (stopping.signal.aborted) return
    throw error
  }
  console.log(whatToLookAt(at))
}

/** Registers a file with the command line, and prints its outcome and the addresses of its trace and its page. */
async function register({ file, user }, { grpc, page }) {
  const words = ['register', file, '--case', CASE, '--user-id', user, '--server', grpc, '--json']
  const run = promisify(execFile)(registrar, words, { signal: stopping.signal })
  // A timeout is printed as JSON too, with a non-zero exit code.
  const { stdout } = await run.catch(error => {
    if (error.stdout) return error
    throw error
  })
  const answer = JSON.parse(stdout)
  const { id, traceId, state } = answer.error?.registration ?? answer
  const outcome = answer.error ? `${answer.error.reason}, ${answer.error.metadata?.cause}` : state.replace('STATE_', '')
  console.log(`  ${file.padEnd(11)} ${outcome.padEnd(36)} ${spotlight.url}/telemetry/traces/${traceId}`)
  if (page) console.log(`${' '.repeat(51)}${page}registrations/${id}`)
}

/** Sets anvil's block interval in seconds; 0 stops it. */
async function mineEvery(seconds, chain) {
  const call = { jsonrpc: '2.0', id: 1, method: 'evm_setIntervalMining', params: [seconds] }
  const headers = { 'content-type': 'application/json' }
  const answer = await fetch(chain, { method: 'POST', headers, body: JSON.stringify(call), signal: stopping.signal })
  const { error } = await answer.json()
  if (error) throw new Error(`anvil rejects ${call.method}: ${error.message}`)
}

function whatToLookAt({ grpc, page }) {
  return `
The chain is running again. What to look at:

  Traces   RegisterDocument: grpc.server over blockchain.register over prepare, send and wait. Click a span for data.
           Register Batch: the JSON-RPC calls and database writes of one transaction.
  Errors   TransactionTimeoutError: under Context, diagnosis has the cause, blockchain the transaction, rpc the
           endpoints.
  Logs     warnings and errors, each in its trace.
  Page     ${page ?? 'off'}: pending transactions, stages, causes; a registration's page links to its trace.

Register a document of your own:

  ${registrar} register FILE --case MINE-1 --user-id me --server ${grpc}

Another service on this machine reports here with SENTRY_DSN=${spotlight.dsn}

Press Ctrl-C to stop; all data is deleted.`
}
