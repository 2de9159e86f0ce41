// Looks at Spotlight's page as a person would, in headless Chromium: at the waterfall of a trace, then at its error.
// Usage: node look.mjs URL TRACE_ID FOLDER
// Prints what it saw as JSON, and leaves waterfall.png and error.png in the folder.
import { accessSync, constants } from 'node:fs'
import { delimiter, join } from 'node:path'
import { chromium } from 'playwright-core'

const [url, traceId, folder] = process.argv.slice(2)
const FLAGS = [
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
]
/** Wide enough for whole names. */
const WIDTH = 1900
/** A page that has not shown something after this many milliseconds never will. */
const PATIENCE = 45_000

// Playwright gives it a new user data directory, and deletes that at the end.
const browser = await chromium.launch({ executablePath: browserOfThisMachine(), args: FLAGS })
try {
  const page = await browser.newPage({ viewport: { width: WIDTH, height: 1000 } })
  page.setDefaultTimeout(PATIENCE)
  const waterfall = await lookAtWaterfall(page)
  const error = await lookAtError(page)
  console.log(JSON.stringify({ waterfall, error }))
} finally {
  await browser.close()
}

function browserOfThisMachine() {
  const names = ['chromium', 'chromium-browser', 'google-chrome']
  const paths = names.flatMap(name => process.env.PATH.split(delimiter).map(directory => join(directory, name)))
  const found = paths.find(path => {
    try {
      accessSync(path, constants.X_OK)
      return true
    } catch {
      return false
    }
  })
  if (!found) throw new Error('Chromium is not there: `make test` installs it, or the Debian package `chromium`')
  return found
}

/** The spans as the page nests them: what kind, what name, how long, and what is below. The picture shows the wait's data, too. */
async function lookAtWaterfall(page) {
  await page.goto(`${url}/telemetry/traces/${traceId}`)
  const spans = page.locator(`li:has(> a[href*="/traces/${traceId}/spans/"])`)
  // A trace arrives in parts: the journey's may come after the call's.
  await spans.filter({ hasText: 'blockchain.register' }).first().waitFor()
  // What lies deep is folded: a click on the number of spans below unfolds it.
  const folded = spans.filter({ hasNot: page.locator(':scope > ul') }).locator('> a > div > div', { hasText: /^\d+$/ })
  while (await folded.count()) await folded.first().click()
  await spans.locator('> a').getByText('blockchain.wait', { exact: true }).first().click()
  await page.getByText('cause', { exact: true }).first().waitFor()
  await page.screenshot({ path: join(folder, 'waterfall.png') })
  return page.evaluate(() => {
    const SPAN = 'li:has(> a[href*="/spans/"])'
    const read = item => {
      const [op, , name, duration] = [...item.querySelectorAll(':scope > a span')].map(span => span.textContent)
      return { op, name, duration, spans: [...item.querySelectorAll(`:scope > ul > ${SPAN}`)].map(read) }
    }
    return [...document.querySelectorAll(SPAN)].filter(item => !item.parentElement.closest(SPAN)).map(read)
  })
}

/** The text of the trace's error and of its contexts. */
async function lookAtError(page) {
  await page.getByRole('link', { name: 'Errors', exact: true }).last().click()
  await page.getByRole('link', { name: 'TransactionTimeoutError' }).first().click()
  await page.getByRole('heading', { name: 'TransactionTimeoutError' }).first().waitFor()
  // All of it at once.
  await page.setViewportSize({ width: WIDTH, height: 2800 })
  await page.getByRole('link', { name: 'Context', exact: true }).click()
  await page.getByText('diagnosis', { exact: true }).first().waitFor()
  const folded = page.locator('main').getByText('...', { exact: true })
  while (await folded.count()) await folded.first().click()
  await page.screenshot({ path: join(folder, 'error.png') })
  return page.locator('main').innerText()
}
