// Refreshes the visible page, and hashes files for the search. The pages work without it.
'use strict'

/** Of one page, in milliseconds. */
const FETCH_TIMEOUT = 10_000
/** A pause before the next attempt to connect, in milliseconds. */
const RECONNECT = 30_000
/** The browser needs the whole file in memory to hash it. */
const MAX_FILE_BYTES = 1024 ** 3

if (document.body.hasAttribute('data-live')) refreshWhileVisible()
searchByFile()

function refreshWhileVisible() {
  const status = document.getElementById('updates')
  const pause = document.getElementById('pause')
  let events
  let paused = false
  let fetching = false
  let retry

  pause.hidden = false
  pause.addEventListener('click', () => {
    paused = !paused
    pause.textContent = paused ? 'Resume updates' : 'Pause updates'
    status.textContent = paused ? 'paused' : ''
    connect()
    if (!paused) refresh()
  })
  document.addEventListener('visibilitychange', () => {
    connect()
    if (isWanted()) refresh()
  })
  // A page in the back-forward cache keeps no connection.
  window.addEventListener('pagehide', () => events?.close())
  window.addEventListener('pageshow', event => {
    if (event.persisted) connect()
  })
  connect()

  function isWanted() {
    return !paused && document.visibilityState === 'visible'
  }

  function connect() {
    events?.close()
    clearTimeout(retry)
    if (!isWanted()) return
    events = new EventSource('/ui/events')
    events.addEventListener('refresh', refresh)
    events.addEventListener('error', () => {
      // The browser connects again by itself unless the answer was an error.
      if (events.readyState !== EventSource.CLOSED) return
      status.textContent = 'not updated, trying again'
      retry = setTimeout(connect, RECONNECT)
    })
  }

  async function refresh() {
    if (fetching || !isWanted()) return
    fetching = true
    try {
      const answer = await fetch(location.href, { signal: AbortSignal.timeout(FETCH_TIMEOUT) })
      // The session has ended.
      if (answer.redirected) return location.reload()
      if (!answer.ok) throw new Error(`status ${answer.status}`)
      const text = await answer.text()
      if (!isWanted()) return
      update(new DOMParser().parseFromString(text, 'text/html'))
      status.textContent = ''
    } catch {
      status.textContent = 'not updated, trying again'
    } finally {
      fetching = false
    }
  }
}

/** Replaces the sections that differ. One that is new or gone changes the others too, so all of them are replaced. */
function update(fresh) {
  const sections = root => [...root.querySelectorAll('[data-refresh]')]
  const ids = root => sections(root).map(section => section.id).join()
  if (ids(document) !== ids(fresh)) return replace(document.getElementById('main'), fresh.getElementById('main'))
  document.title = fresh.title
  for (const section of sections(document)) replace(section, fresh.getElementById(section.id))
}

/** Keeps what is open and focused. A section in which text is selected stays as it is. */
function replace(old, fresh) {
  for (const { id } of old.querySelectorAll('details[open]')) {
    const same = fresh.querySelector(`#${CSS.escape(id)}`)
    if (same) same.open = true
  }
  if (old.outerHTML === fresh.outerHTML) return
  const selection = getSelection()
  if (!selection.isCollapsed && old.contains(selection.anchorNode)) return
  const focused = old.contains(document.activeElement) ? position(old, document.activeElement) : -1
  old.replaceWith(fresh)
  if (focused >= 0) focusable(fresh)[focused]?.focus({ preventScroll: true })
}

function focusable(root) {
  return [...root.querySelectorAll('a[href], button, summary, input')]
}

/** By its address, because rows move. */
function position(root, element) {
  return focusable(root).indexOf(element)
}

/** Only the hash of a file leaves the browser. */
function searchByFile() {
  const area = document.getElementById('file-search')
  // Hashing needs a secure context: https, or loopback.
  if (!area || !window.crypto?.subtle) return
  const [input, status] = ['file', 'file-status'].map(id => document.getElementById(id))
  area.hidden = false
  input.addEventListener('change', async () => {
    const [file] = input.files
    if (!file) return
    if (file.size > MAX_FILE_BYTES) {
      status.textContent = 'The file is larger than 1 GiB: search for the hash that sha256sum prints.'
      return
    }
    status.textContent = `Hashing ${file.name} in this browser`
    try {
      const digest = await crypto.subtle.digest('SHA-256', await file.arrayBuffer())
      const hex = [...new Uint8Array(digest)].map(byte => byte.toString(16).padStart(2, '0')).join('')
      location.assign(`/ui/search?q=${hex}`)
    } catch {
      status.textContent = 'The file cannot be read.'
    }
  })
}
