// What anybody sees.
import { createServer } from 'node:http'
import { differ, eventually, inLooks, json, texts } from './looks.mjs'

/** Pages that need no name in their address. */
const PAGES = ['/', '/hosts', '/accounts', '/reasons']

export async function visit({ browser, demo, report, say }) {
  const names = await subjects(demo.url)
  const pages = [...PAGES, `/hosts/${names.host}`, `/accounts/${names.did}`]
  const missing = ['/hosts/unknown.example.com', '/accounts/did:web:unknown.example.com', '/nothing']

  await inLooks({ browser, demo, report, pages, missing, what: 'public pages' })
  say('every public page, light and dark, on a desk and on a phone')
  await live({ browser, demo, report, pages })
  say('numbers change')
  await hosts({ browser, demo, report })
  await oneHost({ browser, demo, report, ...names })
  await again({ browser, demo, report, host: await silentHost(demo) })
  await accounts({ browser, demo, report })
  await withoutScript({ browser, demo, report, ...names })
  say('hosts, accounts, and all of it without a script')
}

/** A host with refused events, and an account. */
export async function subjects(url) {
  const hosts = await eventually(async () => {
    const { hosts } = await json(`${url}/hosts.json`)
    return hosts.some(({ rejected }) => rejected > 0) && hosts
  })
  const host = hosts.sort((a, b) => b.rejected - a.rejected)[0].hostname
  const { repos } = await json(`${url}/xrpc/com.atproto.sync.listRepos?limit=10`)
  return { host, did: repos[0].did }
}

async function live({ browser, demo, report, pages }) {
  const visitor = await browser.visitor(demo.url)
  for (const path of pages.filter((path) => !['/accounts', '/reasons'].includes(path))) {
    await visitor.open(path)
    const before = await texts(visitor.page, '[data-live]')
    const changed = await eventually(async () => differ(before, await texts(visitor.page, '[data-live]')), 15)
    report.is(`${path} keeps itself up to date`, changed)
  }
  await visitor.open('/')
  await visitor.page.getByRole('button', { name: 'Pause' }).click()
  const paused = await texts(visitor.page, '[data-live]')
  await visitor.page.waitForTimeout(5000)
  report.is('and stands still when it is told to', !differ(paused, await texts(visitor.page, '[data-live]')))
  report.check('nothing goes wrong meanwhile', await visitor.leave())
}

async function hosts({ browser, demo, report }) {
  const visitor = await browser.visitor(demo.url)
  const { page } = visitor
  await visitor.open('/hosts')
  const names = () => texts(page, 'table tbody tr th')
  const all = await names()
  report.is('a page of the list has a hundred hosts', all.length === 100, `${all.length}`)
  const wanted = all[all.length - 1].slice(-4)
  await page.getByRole('searchbox').fill(wanted)
  const found = await eventually(async () => {
    const now = await names()
    return now.length > 0 && now.length < all.length && now.every((name) => name.includes(wanted)) && now
  })
  report.is('typing filters the list', Boolean(found), `${found?.length} hosts match ${wanted}`)
  report.is('and the address says so', page.url().includes(wanted), page.url())
  await visitor.open('/hosts')
  const sorted = []
  for (const _ of [1, 2]) {
    await page.getByRole('columnheader', { name: /received/i }).getByRole('link').click()
    await page.waitForLoadState()
    sorted.push(await names())
  }
  report.is('a heading sorts the list, and sorts it the other way', differ(sorted[0], sorted[1]))
  await page.getByRole('link', { name: 'Largest' }).click()
  report.is('the largest are one click away', (await names()).length > 0, page.url())
  await page.getByRole('link', { name: 'Failing' }).click()
  report.is('so are those that fail', (await page.getByRole('heading', { level: 1 }).count()) === 1, page.url())
  report.check('nothing goes wrong meanwhile', await visitor.leave())
}

async function oneHost({ browser, demo, report, host }) {
  const visitor = await browser.visitor(demo.url)
  const { page } = visitor
  await visitor.open('/hosts')
  await page.getByRole('searchbox').fill(host)
  await page.getByRole('link', { name: host, exact: true }).click()
  await page.waitForURL(`**/hosts/${encodeURI(host)}`)
  const text = await page.getByRole('main').innerText()
  const detail = await json(`${demo.url}/hosts/${host}.json`)
  const reasons = Object.keys(detail.events.rejected)
  report.check(
    'the page of a host names every reason for which its events were refused',
    reasons.filter((reason) => !text.includes(reason)),
    reasons.join(', '),
  )
  await page.getByRole('link', { name: reasons[0] }).first().click()
  report.is('each leads to what it means', page.url().endsWith(`/reasons#${reasons[0]}`), page.url())
  report.check('nothing goes wrong meanwhile', await visitor.leave())
}

/** A host that says what it is, and takes no connections to its stream. */
async function silentHost({ url, password }) {
  const server = createServer((request, answer) => {
    const known = request.url.startsWith('/xrpc/com.atproto.server.describeServer')
    answer.statusCode = known ? 200 : 404
    answer.setHeader('content-type', 'application/json')
    answer.end(JSON.stringify(known ? { did: 'did:web:localhost', availableUserDomains: [] } : {}))
  })
  await new Promise((resolve) => server.listen(0, 'localhost', resolve))
  server.unref()
  const host = `localhost:${server.address().port}`
  await json(`${url}/admin/pds/requestCrawl`, {
    method: 'POST',
    headers: { authorization: `Bearer ${password}`, 'content-type': 'application/json' },
    body: JSON.stringify({ hostname: host }),
  })
  await eventually(async () => (await json(`${url}/hosts/${host}.json`)).failures > 0)
  return host
}

async function again({ browser, demo, report, host }) {
  for (const script of [true, false]) {
    const how = script ? 'with a script' : 'without a script'
    const visitor = await browser.visitor(demo.url, { script })
    const { page } = visitor
    await visitor.open(`/hosts/${host}`)
    const text = await page.getByRole('main').innerText()
    report.is(`${how}, it is said why a host is not heard`, text.includes('can not connect'))
    await page.getByRole('button', { name: /try again now/i }).click()
    await page.waitForLoadState()
    const said = (await texts(page, 'main [role=status], main [role=alert]')).join(' ').trim()
    report.is(`${how}, "try again" is answered in words`, said.length > 10, said)
    report.check('nothing goes wrong meanwhile', await visitor.leave())
  }
}

/** Accounts that have commits and are active, as far as that is known now. */
async function activeAccounts(url) {
  const { repos } = await json(`${url}/xrpc/com.atproto.sync.listRepos?limit=100`)
  return repos.filter(({ active }) => active)
}

async function accounts({ browser, demo, report }) {
  const visitor = await browser.visitor(demo.url)
  const { page } = visitor
  // People go on writing, and now and then one is deleted: what is known before and after counts.
  const before = (await activeAccounts(demo.url)).at(-1)
  await visitor.open('/accounts')
  await page.getByRole('textbox').fill(before.did)
  await page.keyboard.press('Enter')
  await page.waitForURL(`**/accounts/${before.did}`)
  const text = await page.getByRole('main').innerText()
  const after = (await activeAccounts(demo.url)).find(({ did }) => did === before.did)
  const revs = [before.rev, after?.rev].filter(Boolean)
  report.is('the page of an account has its last revision', revs.some((rev) => text.includes(rev)), revs.join(', '))
  visitor.refused = true
  await visitor.open('/accounts')
  await page.getByRole('textbox').fill('not a did')
  await page.keyboard.press('Enter')
  await page.waitForLoadState()
  report.is('what is no DID gets an explanation', /did/i.test(await page.getByRole('main').innerText()))
  report.check('nothing goes wrong meanwhile', await visitor.leave())
}

async function withoutScript({ browser, demo, report, host, did }) {
  const visitor = await browser.visitor(demo.url, { script: false })
  const { page } = visitor
  await visitor.open('/hosts')
  await page.getByRole('searchbox').fill(host)
  await page.keyboard.press('Enter')
  await page.waitForURL(/q=/)
  await page.getByRole('link', { name: host, exact: true }).click()
  report.is('without a script a host is found', page.url().includes('/hosts/'), page.url())
  await visitor.open('/accounts')
  await page.getByRole('textbox').fill(did)
  await page.keyboard.press('Enter')
  await page.waitForURL(`**/accounts/${did}`)
  report.check('nothing goes wrong meanwhile', await visitor.leave())
}
