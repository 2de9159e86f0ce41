// Runs the Worker in workerd, the runtime of Cloudflare Workers, for the integration tests.
// Usage: node run-worker.mjs PORT SERVER FOLDER BODY...
// Posts each body to the Worker, which listens on PORT, and prints the answers, one a line.
import { spawn } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import esbuild from 'esbuild'
import workerd from 'workerd'

const [port, server, folder, ...bodies] = process.argv.slice(2)
const absWorkingDir = import.meta.dirname
const outfile = join(folder, 'worker.js')
await esbuild.build({ entryPoints: ['worker.js'], bundle: true, format: 'esm', outfile, absWorkingDir })
const config = join(folder, 'worker.capnp')
writeFileSync(
  config,
  `using Workerd = import "/workerd/workerd.capnp";
const config :Workerd.Config = (
  services = [
    (name = "main", worker = (
      modules = [(name = "worker.js", esModule = embed "worker.js")],
      bindings = [(name = "REGISTRAR_URL", text = "${server}")],
      compatibilityDate = "2026-11-01",
    )),
    (name = "internet", network = (allow = ["public", "private", "local"])),
  ],
  sockets = [(name = "http", address = "127.0.0.1:${port}", http = (), service = "main")],
);
`,
)
// The program itself: a signal to its npm wrapper does not end it.
const runtime = spawn(workerd.default, ['serve', config], { stdio: ['ignore', 'inherit', 'inherit'] })
try {
  for (const body of bodies) console.log(await (await post(body)).text())
} finally {
  runtime.kill()
}

/** Tries again until the Worker listens. */
async function post(body) {
  for (;;) {
    try {
      return await fetch(`http://127.0.0.1:${port}/`, { method: 'POST', body })
    } catch (error) {
      if (runtime.exitCode !== null || error.cause?.code !== 'ECONNREFUSED') throw error
      await new Promise(resolve => setTimeout(resolve, 50))
    }
  }
}
