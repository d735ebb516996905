// Pictures of the main pages for the documentation, of the same network each time.
import { mkdirSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { logIn } from './operator.mjs'
import { subjects } from './public.mjs'

const IMAGES = join(dirname(fileURLToPath(import.meta.url)), '../../../docs/images')
/** So long, and the chart has something to show. */
const WARM_UP_MS = 90_000

export async function takeScreenshots({ browser, demo, say }) {
  mkdirSync(IMAGES, { recursive: true })
  await new Promise((resolve) => setTimeout(resolve, WARM_UP_MS))
  const { host, did } = await subjects(demo.url)
  const pictures = [
    ['overview', '/', {}],
    ['overview-dark', '/', { scheme: 'dark' }],
    ['overview-phone', '/', { size: 'phone' }],
    ['hosts', '/hosts', {}],
    ['host', `/hosts/${host}`, {}],
    ['account', `/accounts/${did}`, {}],
    ['operator-hosts', '/admin/console/hosts', { operator: true }],
    ['operator-host', `/admin/console/host?host=${host}`, { operator: true, scheme: 'dark' }],
  ]
  for (const [name, path, { operator, ...looks }] of pictures) {
    const visitor = await browser.visitor(demo.url, looks)
    if (operator) await logIn(visitor, demo.password)
    await visitor.open(path)
    await visitor.page.screenshot({ path: join(IMAGES, `${name}.png`) })
    await visitor.leave()
    say(`docs/images/${name}.png`)
  }
}
