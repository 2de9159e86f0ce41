// Opens the waterfall of a trace and then its error in Spotlight, in headless Chromium.
// Usage: node screenshot.mjs URL TRACE_ID FOLDER
// Prints what the page shows as JSON and writes waterfall.png and error.png to the folder.
import { join } from 'node:path'
import { chromium } from 'playwright-core'
import { FLAGS, installedBrowser } from './installed-browser.mjs'

const [url, traceId, folder] = process.argv.slice(2)
/** Wide enough for complete span names. */
const WIDTH = 1900
/** In milliseconds. */
const ELEMENT_TIMEOUT = 45_000

// Playwright creates a new user data directory and deletes it at the end.
const browser = await chromium.launch({ executablePath: installedBrowser(), args: FLAGS })
try {
  const page = await browser.newPage({ viewport: { width: WIDTH, height: 1000 } })
  page.setDefaultTimeout(ELEMENT_TIMEOUT)
  const waterfall = await readWaterfall(page)
  const error = await readError(page)
  console.log(JSON.stringify({ waterfall, error }))
} finally {
  await browser.close()
}

/** The spans as the page nests them. The screenshot includes the attributes of the wait. */
async function readWaterfall(page) {
  await page.goto(`${url}/telemetry/traces/${traceId}`)
  const spans = page.locator(`li:has(> a[href*="/traces/${traceId}/spans/"])`)
  // A trace arrives in parts: the registration's spans may follow those of the call.
  await spans.filter({ hasText: 'blockchain.register' }).first().waitFor()
  // Deep spans are collapsed; a click on the number of children expands them.
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

/** The text of the trace's error and its contexts. */
async function readError(page) {
  await page.getByRole('link', { name: 'Errors', exact: true }).last().click()
  await page.getByRole('link', { name: 'TransactionTimeoutError' }).first().click()
  await page.getByRole('heading', { name: 'TransactionTimeoutError' }).first().waitFor()
  // Large enough for the whole error.
  await page.setViewportSize({ width: WIDTH, height: 2800 })
  await page.getByRole('link', { name: 'Context', exact: true }).click()
  await page.getByText('diagnosis', { exact: true }).first().waitFor()
  const folded = page.locator('main').getByText('...', { exact: true })
  while (await folded.count()) await folded.first().click()
  await page.screenshot({ path: join(folder, 'error.png') })
  return page.locator('main').innerText()
}
