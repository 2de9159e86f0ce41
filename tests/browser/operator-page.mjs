// Looks at the operator page in headless Chromium.
// Usage: node operator-page.mjs CHECK URL [JSON]
// Prints what the check saw as JSON. Every check also reports violations of the content security policy, errors of
// scripts and requests to other sites, of which there are none.
import { writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { chromium } from 'playwright-core'
import { FLAGS, installedBrowser } from './installed-browser.mjs'

const [name, url, argument = '{}'] = process.argv.slice(2)
const given = JSON.parse(argument)
const DESKTOP = { width: 1280, height: 900 }
const PHONE = { width: 360, height: 740 }
/** In milliseconds. */
const TIMEOUT = 30_000

const checks = { read, search, file, script, narrow, accessible, keyboard, live, hidden, paint, screenshots, signIn }
const browser = await chromium.launch({ executablePath: installedBrowser(), args: FLAGS })
const complaints = []
try {
  const seen = await checks[name]()
  console.log(JSON.stringify({ seen, complaints }))
} finally {
  await browser.close()
}

/** A page that collects complaints and requests. */
async function open(options = {}) {
  const context = await browser.newContext({ viewport: DESKTOP, ...options })
  context.setDefaultTimeout(TIMEOUT)
  const page = await context.newPage()
  const requests = []
  page.on('request', request => {
    requests.push({ method: request.method(), url: request.url(), body: request.postData() })
    if (!request.url().startsWith(url) && request.url() !== 'about:blank') complaints.push(`request to ${request.url()}`)
  })
  page.on('pageerror', error => complaints.push(`error: ${error.message}`))
  page.on('console', message => {
    // A status of 4xx is logged as well, and is the business of the check.
    if (message.type() === 'error' && !/status of [45]/.test(message.text())) complaints.push(message.text())
  })
  return { context, page, requests }
}

function panels(page) {
  return page.evaluate(() => {
    const text = element => element.innerText.replace(/\s+/g, ' ').trim()
    return Object.fromEntries([...document.querySelectorAll('main section[id]')].map(each => [each.id, text(each)]))
  })
}

/** The text of each panel of each path. */
async function read() {
  const { page } = await open()
  const seen = {}
  for (const path of given.paths) {
    const answer = await page.goto(url + path)
    seen[path] = {
      status: answer.status(),
      headers: answer.headers(),
      title: await page.title(),
      main: (await page.locator('main').innerText()).replace(/\s+/g, ' '),
      panels: await panels(page),
      links: await page.locator('main a').evaluateAll(links => links.map(link => link.href)),
    }
  }
  return seen
}

/** What the search form answers for each text. */
async function search() {
  const { page } = await open()
  const seen = {}
  for (const text of given.texts) {
    await page.goto(`${url}/ui/`)
    await page.getByRole('searchbox').fill(text)
    await page.getByRole('button', { name: 'Search', exact: true }).click()
    await page.waitForURL(address => address.pathname !== '/ui/')
    seen[text] = { path: new URL(page.url()).pathname, main: (await page.locator('main').innerText()).replace(/\s+/g, ' ') }
  }
  return seen
}

/** Where a file leads, and every request on the way. */
async function file() {
  const { page, requests } = await open()
  await page.goto(`${url}/ui/`)
  await page.getByLabel('Search by file').setInputFiles({
    name: 'contract.pdf',
    mimeType: 'application/pdf',
    buffer: Buffer.from(given.content),
  })
  await page.waitForURL(/registrations|search/)
  return { path: new URL(page.url()).pathname, requests }
}

/** The pages without JavaScript. */
async function script() {
  const { page } = await open({ javaScriptEnabled: false })
  await page.goto(`${url}/ui/`)
  const overview = await page.locator('main').innerText()
  const isPauseVisible = await page.locator('#pause').isVisible()
  const isFileVisible = await page.locator('#file-search').isVisible()
  await page.getByRole('searchbox').fill(given.text)
  await page.getByRole('button', { name: 'Search', exact: true }).click()
  await page.waitForURL(/registrations/)
  return { overview, isPauseVisible, isFileVisible, registration: await page.locator('main').innerText() }
}

/** How far each page is wider than a phone, and which elements are cut off. */
async function narrow() {
  const { page } = await open({ viewport: PHONE, hasTouch: true, isMobile: true })
  const seen = {}
  for (const path of given.paths) {
    await page.goto(url + path)
    seen[path] = await page.evaluate(() => {
      const wide = [...document.querySelectorAll('main *, header *, footer *')].filter(element => {
        const box = element.getBoundingClientRect()
        return box.width > 1 && box.right > document.documentElement.clientWidth + 0.5
      })
      const names = wide.map(element => `${element.tagName} ${element.className} ${element.textContent.slice(0, 40)}`)
      return { scroll: document.documentElement.scrollWidth - document.documentElement.clientWidth, wide: names }
    })
  }
  return seen
}

/** The findings of axe in one color scheme, wide and narrow. */
async function accessible() {
  const axe = createRequire(import.meta.url).resolve('axe-core')
  const seen = []
  for (const viewport of [DESKTOP, PHONE]) {
    // The policy of the page would refuse the script of axe.
    const { context, page } = await open({ colorScheme: given.colorScheme, viewport, bypassCSP: true })
    for (const path of given.paths) {
      await page.goto(url + path)
      for (const details of await page.locator('details').all()) await details.evaluate(each => (each.open = true))
      await page.addScriptTag({ path: axe })
      const { violations, passes } = await page.evaluate(() => globalThis.axe.run(document))
      const findings = violations.map(({ id, impact, nodes }) => ({ id, impact, nodes: nodes.map(node => node.html) }))
      const background = await page.evaluate(() => getComputedStyle(document.body).backgroundColor)
      seen.push({ path, width: viewport.width, findings, passes: passes.length, background })
    }
    await context.close()
  }
  return seen
}

/** From the address bar to a registration with the keyboard alone. */
async function keyboard() {
  const { page } = await open()
  await page.goto(`${url}/ui/`)
  const focused = () =>
    page.evaluate(() => {
      const element = document.activeElement
      const { outlineStyle, outlineWidth } = getComputedStyle(element)
      const label = element.matches('#file') ? element.nextElementSibling : undefined
      const style = label ? getComputedStyle(label) : { outlineStyle, outlineWidth }
      return {
        name: element.textContent.trim() || element.getAttribute('aria-label') || element.id,
        isVisible: style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 2,
      }
    })
  const stops = []
  for (let step = 0; step < 5; step += 1) {
    await page.keyboard.press('Tab')
    stops.push(await focused())
  }
  await page.goto(`${url}/ui/`)
  await page.keyboard.press('Tab')
  await page.keyboard.press('Enter')
  const isInMain = await page.evaluate(() => document.activeElement.id === 'main')
  await page.goto(`${url}/ui/`)
  for (let step = 0; step < 3; step += 1) await page.keyboard.press('Tab')
  await page.keyboard.type(given.text)
  await page.keyboard.press('Enter')
  await page.waitForURL(/registrations/)
  return { stops, isInMain, path: new URL(page.url()).pathname }
}

/** An open page shows what happens without being reloaded, keeps the focus, and stops when it is paused. */
async function live() {
  const { page, requests } = await open()
  const events = page.waitForResponse(response => response.url().endsWith('/ui/events'))
  await page.goto(`${url}/ui/`)
  await events
  const first = page.locator('#latest tbody tr').first()
  await page.locator('#latest a').first().focus()
  await page.evaluate(() => (globalThis.isSamePage = true))
  console.error('ready')
  await first.getByText(given.text).waitFor()
  const focus = await page.evaluate(() => document.activeElement.closest('section')?.id)
  const isSamePage = await page.evaluate(() => globalThis.isSamePage === true)
  await page.getByRole('button', { name: 'Pause updates' }).click()
  const before = requests.length
  await page.waitForTimeout(5000)
  const whilePaused = requests.length - before
  const again = page.waitForResponse(response => response.url().endsWith('/ui/'))
  await page.getByRole('button', { name: 'Resume updates' }).click()
  await again
  return { focus, isSamePage, whilePaused }
}

/** A page in the background makes no request. */
async function hidden() {
  const { page, requests } = await open()
  await page.goto(`${url}/ui/`)
  await page.waitForResponse(response => response.url() === `${url}/ui/`)
  const show = state =>
    page.evaluate(visible => {
      Object.defineProperty(document, 'visibilityState', { value: visible, configurable: true })
      document.dispatchEvent(new Event('visibilitychange'))
    }, state)
  await show('hidden')
  await page.waitForTimeout(500)
  const before = requests.length
  await page.waitForTimeout(5000)
  const whileHidden = requests.length - before
  const again = page.waitForResponse(response => response.url() === `${url}/ui/`)
  await show('visible')
  await again
  return { whileHidden }
}

/** The time from a click to the first paint of each path in an open tab, in milliseconds: the median of several. */
async function paint() {
  const { page } = await open()
  const seen = {}
  for (const path of given.paths) {
    const times = []
    for (let round = 0; round < 8; round += 1) {
      await page.goto('about:blank')
      await page.goto(url + path)
      const painted = await page.waitForFunction(
        () => performance.getEntriesByName('first-contentful-paint')[0]?.startTime,
      )
      // The first one starts the browser's process for this site.
      if (round > 0) times.push(await painted.jsonValue())
    }
    seen[path] = times.sort((a, b) => a - b)[3]
  }
  return seen
}

/** Pictures of each path, for people. */
async function screenshots() {
  for (const [label, options] of Object.entries({
    light: {},
    dark: { colorScheme: 'dark' },
    narrow: { viewport: PHONE },
    'narrow-dark': { viewport: PHONE, colorScheme: 'dark' },
  })) {
    const { context, page } = await open(options)
    for (const [shot, path] of Object.entries(given.paths)) {
      await page.goto(url + path)
      const picture = await page.screenshot({ fullPage: true })
      writeFileSync(join(given.folder, `${shot}-${label}.png`), picture)
    }
    await context.close()
  }
  return Object.keys(given.paths)
}

/** From another machine: wrong tokens, the right one, and what the browser keeps. */
async function signIn() {
  const { context, page, requests } = await open({ ignoreHTTPSErrors: true })
  const seen = { answers: {} }
  await page.goto(url + given.path)
  seen.form = new URL(page.url()).pathname
  for (const [who, token] of Object.entries(given.wrong)) {
    await page.getByLabel('Token').fill(token)
    const answer = page.waitForResponse(response => response.request().method() === 'POST')
    await page.getByRole('button', { name: 'Sign in' }).click()
    const status = (await answer).status()
    seen.answers[who] = { status, problem: await page.getByRole('alert').innerText() }
  }
  await page.getByLabel('Token').fill(given.token)
  await page.getByRole('button', { name: 'Sign in' }).click()
  await page.waitForURL(url + given.path)
  await page.locator('main h1').waitFor()
  seen.cookies = await context.cookies()
  seen.script = await page.evaluate(() => document.cookie)
  const other = await context.newPage()
  await other.goto(`${url}/ui/`)
  seen.title = await other.title()
  seen.tokenInAddress = requests.some(request => request.url.includes(given.token))
  return seen
}
