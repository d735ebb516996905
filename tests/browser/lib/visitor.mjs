// A person with a browser: opens pages, and notices what is not as it should be.
import { createRequire } from 'node:module'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'

/** Where Debian and others have it; `$CHROMIUM` is another place. */
const CHROMIUM = process.env.CHROMIUM || '/usr/bin/chromium'
/** Rules of WCAG 2.2 up to AA, and what axe calls good practice. */
const AXE_TAGS = ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice']

export const SIZES = {
  desktop: { width: 1200, height: 900 },
  phone: { width: 360, height: 740 },
}

/** A browser, from the packages in `installed`. */
export async function openBrowser(installed) {
  const require = createRequire(join(installed, 'package.json'))
  const { chromium } = require('playwright-core')
  const axe = readFileSync(require.resolve('axe-core/axe.min.js'), 'utf8')
  const args = ['--disable-gpu', '--disable-background-networking', '--no-sandbox']
  const browser = await chromium.launch({ executablePath: CHROMIUM, args })
  return {
    version: browser.version(),
    close: () => browser.close(),
    visitor: (base, looks) => Visitor.arrive(browser, axe, base, looks),
  }
}

/** One browser session: its cookies, its window, and all that went wrong in it. */
export class Visitor {
  problems = []

  static async arrive(browser, axe, base, { scheme = 'light', size = 'desktop', script = true } = {}) {
    const context = await browser.newContext({
      baseURL: base,
      colorScheme: scheme,
      viewport: SIZES[size],
      javaScriptEnabled: script,
      // The page's policy must let the checks of axe in, which are not the page's.
      bypassCSP: false,
    })
    const visitor = new Visitor()
    visitor.context = context
    visitor.axe = axe
    visitor.base = base
    visitor.page = await context.newPage()
    visitor.watch()
    return visitor
  }

  /** Nothing may come from elsewhere, and no page may log an error. */
  watch() {
    this.page.on('console', (message) => {
      if (message.type() === 'error' && !this.expected(message.text()))
        this.problems.push(`${this.page.url()}: console: ${message.text()}`)
    })
    this.page.on('pageerror', (error) => this.problems.push(`${this.page.url()}: ${error}`))
    this.page.on('request', (request) => {
      const url = request.url()
      if (!url.startsWith(this.base) && !url.startsWith('data:'))
        this.problems.push(`${this.page.url()} asks for ${url}`)
    })
  }

  /** The browser logs each answer that is not a good one; some are meant to be none. */
  expected(text) {
    return this.refused && /status of (400|401|403|404|409|429)/.test(text)
  }

  async open(path) {
    const answer = await this.page.goto(path, { waitUntil: 'load' })
    return answer.status()
  }

  /** What axe finds on the page as it is. */
  async accessibility() {
    // By the debugger, which the page's content policy does not hold for.
    await this.page.evaluate(this.axe)
    const found = await this.page.evaluate(
      (values) => globalThis.axe.run(document, { runOnly: { type: 'tag', values } }),
      AXE_TAGS,
    )
    return found.violations.map(({ id, help, nodes }) => {
      const where = nodes.slice(0, 3).map((node) => `${node.target.join(' ')} ${node.html.slice(0, 120)}`)
      return `${this.page.url()}: ${id}: ${help}: ${where.join(' | ')}`
    })
  }

  /** What is wider than the window, which a phone would have to scroll sideways. */
  async overflow() {
    const wide = await this.page.evaluate(() => {
      const root = document.scrollingElement
      return root.scrollWidth > root.clientWidth ? `${root.scrollWidth} > ${root.clientWidth}` : ''
    })
    return wide ? [`${this.page.url()} is wider than the window: ${wide}`] : []
  }

  async leave() {
    await this.context.close()
    return this.problems
  }
}
