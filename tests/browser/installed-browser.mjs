// The browser of this machine.
import { accessSync, constants } from 'node:fs'
import { delimiter, join } from 'node:path'

/** For a test: as root, without a screen, and without requests of its own. */
export const FLAGS = [
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
]

export function installedBrowser() {
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
  if (!found) throw new Error('Chromium is missing: `make test` installs it from the Debian package `chromium`')
  return found
}
