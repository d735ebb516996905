// What people see of zlay, in a real browser: every page of a relay that reads a simulated network.
// See README.md beside this file.
//
//   node run.mjs [--screenshots] [--operator] [--keep] [--install-only]
import { spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { Report } from '../real/lib/checks.mjs'
import { installForBrowser } from '../real/lib/install.mjs'
import { startDemo } from './lib/demo.mjs'
import { takeScreenshots } from './lib/screenshots.mjs'
import { operate } from './lib/operator.mjs'
import { visit } from './lib/public.mjs'
import { openBrowser } from './lib/visitor.mjs'

const { values: options } = parseArgs({
  options: {
    screenshots: { type: 'boolean', default: false },
    operator: { type: 'boolean', default: false },
    keep: { type: 'boolean', default: false },
    'install-only': { type: 'boolean', default: false },
  },
})
const started = Date.now()
const say = (text) => console.log(`# ${((Date.now() - started) / 1000).toFixed(1)} s  ${text}`)

/** More than a page of hosts, and enough events that every number moves. */
const NETWORK = {
  hosts: 120,
  rate: 60,
  environment: {
    RELAY_CONTACT: 'mailto:relay@example.com',
    RELAY_POLICY_URL: 'https://example.com/policy',
  },
}

async function main() {
  const { node, library } = installForBrowser()
  if (options['install-only']) return true
  if (process.version.split('.')[0] !== 'v24') {
    const again = spawnSync(node, process.argv.slice(1), { stdio: 'inherit' })
    return again.status === 0
  }
  const folder = mkdtempSync(join(tmpdir(), 'zlay-browser-'))
  const report = new Report()
  const demo = await startDemo({ ...NETWORK, log: join(folder, 'relay.log') })
  say(`the demo runs at ${demo.url}; its log is in ${folder}`)
  try {
    const browser = await openBrowser(library)
    say(`Chromium ${browser.version}`)
    try {
      if (options.screenshots) await takeScreenshots({ browser, demo, say })
      else {
        if (!options.operator) await visit({ browser, demo, report, say })
        await operate({ browser, demo, report, say })
      }
    } finally {
      await browser.close()
    }
    const code = await demo.stop()
    report.check(
      'the relay put out what it had to, whoever looked at it',
      code === 0 ? [] : [`the demo ended with ${code}`, ...demo.said.slice(-8)],
    )
  } catch (error) {
    report.check('the visit came to its end', [error.stack])
  } finally {
    await demo.stop()
  }
  if (options.keep || report.failed) say(`kept: ${folder}`)
  else rmSync(folder, { recursive: true, force: true })
  say('the end')
  return report.summary()
}

process.exitCode = (await main()) ? 0 : 1
