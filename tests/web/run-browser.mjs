// Calls from a page in headless Chromium, for the integration tests.
// Usage: node run-browser.mjs PORT SERVER DOCUMENT_HASH CASE_ID
// Serves the page at http://localhost:PORT, and prints what the page shows.
import { createServer } from 'node:http'
import esbuild from 'esbuild'
import { chromium } from 'playwright-core'
import { FLAGS, installedBrowser } from '../browser/installed-browser.mjs'

const [port, server, documentHash, caseId] = process.argv.slice(2)
const absWorkingDir = import.meta.dirname
const bundle = { entryPoints: ['browser.js'], bundle: true, format: 'esm', write: false, absWorkingDir }
const [script] = (await esbuild.build(bundle)).outputFiles
const page = '<!doctype html><title>Registrar</title>'
const files = createServer((request, response) => {
  const isScript = request.url === '/browser.js'
  response.setHeader('content-type', isScript ? 'text/javascript' : 'text/html')
  response.end(isScript ? script.text : page)
})
await new Promise(resolve => files.listen(Number(port), 'localhost', resolve))
const browser = await chromium.launch({ executablePath: installedBrowser(), args: FLAGS })
try {
  const tab = await browser.newPage()
  await tab.goto(`http://localhost:${port}/`)
  const call = async ([server, documentHash, caseId]) => {
    const { registerFromPage } = await import('/browser.js')
    return registerFromPage(server, documentHash, caseId)
  }
  console.log(await tab.evaluate(call, [server, documentHash, caseId]))
} finally {
  await browser.close()
  files.close()
}
