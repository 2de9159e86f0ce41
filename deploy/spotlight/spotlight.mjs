// Spotlight, Sentry's local viewer, as a server on loopback.
//
// `overrides` in package.json pins hono, its web framework: a part of 4.12.25 is built into Spotlight 4.11.8, and
// with a newer version beside it every route answers 500.
import { startServer } from '@spotlightjs/spotlight'
import { once } from 'node:events'
import { readdirSync, readFileSync } from 'node:fs'
import { createServer } from 'node:net'

const LOOPBACK = '127.0.0.1'

/**
 * Serves Spotlight on this port, or on a free one if it is in use. `dsn` is for Sentry SDKs that report to it.
 *
 * Spotlight's command line is not used because it reports its own use to sentry.io. Its page does too, unless its
 * content security policy forbids it.
 */
export async function serveSpotlight(preferred) {
  const port = await freePort(preferred)
  const server = await startServer({ port, filesToServe: page() })
  // It listens on every interface, and any client may read the reports and open files in a local editor: use loopback
  // only.
  server.close()
  await once(server, 'close')
  server.listen(port, LOOPBACK)
  await once(server, 'listening')
  const close = () => {
    server.close()
    server.closeAllConnections()
  }
  return { port, url: `http://${LOOPBACK}:${port}`, dsn: `http://x@${LOOPBACK}:${port}/1`, close }
}

function page() {
  const folder = new URL('../ui/', import.meta.resolve('@spotlightjs/spotlight'))
  const read = name => readFileSync(new URL(name, folder))
  const html = read('index.html').toString().replace(' https://*.sentry.io', '')
  const assets = readdirSync(new URL('assets/', folder)).map(name => [`assets/${name}`, read(`assets/${name}`)])
  return { 'index.html': Buffer.from(html), ...Object.fromEntries(assets) }
}

async function freePort(preferred) {
  const server = createServer()
  try {
    server.listen(preferred, LOOPBACK)
    await once(server, 'listening')
  } catch (error) {
    if (error.code !== 'EADDRINUSE') throw error
    server.listen(0, LOOPBACK)
    await once(server, 'listening')
  }
  const { port } = server.address()
  server.close()
  await once(server, 'close')
  return port
}
