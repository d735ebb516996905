// The requests of the reference relay's dashboard, as a browser sends them from a page of the relay's
// own origin, and the fields that the dashboard reads
// (<https://github.com/bluesky-social/indigo/tree/main/cmd/relay/relay-admin-ui>). Each part is named
// after the component that it stands for.
import { differs, mistyped } from './compare.mjs'

/** What the table of hosts shows, sorts by, and sends. */
const PDS = {
  ID: 'number',
  CreatedAt: 'date',
  Host: 'string',
  Cursor: 'number',
  Blocked: 'boolean',
  HasActiveConnection: 'boolean',
  EventsSeenSinceStartup: 'number',
  PerSecondEventRate: { Max: 'number' },
  PerHourEventRate: { Max: 'number' },
  PerDayEventRate: { Max: 'number' },
  RepoCount: 'number',
  RepoLimit: 'number',
}
const CONSUMER = {
  id: 'number',
  remote_addr: 'string',
  user_agent: 'string',
  events_consumed: 'number',
  connected_at: 'date',
}
const SUCCESS = { success: 'true' }

/** A browser with a page of the relay's own origin, and what was typed there as the password. */
export class Browser {
  constructor(origin, password) {
    Object.assign(this, { origin, password })
  }

  /** `fetch` of the page: `{status, body}`. The dashboard takes every body for JSON. */
  async call(method, path, body, headers = {}) {
    const response = await fetch(`${this.origin}${path}`, {
      method,
      headers: {
        // What the dashboard sets, on requests without a body too,
        'Content-Type': 'application/json',
        Authorization: 'Basic ' + btoa(`admin:${this.password}`),
        // and what the browser adds.
        ...(method === 'POST' ? { Origin: this.origin } : {}),
        Referer: `${this.origin}/dash/`,
        'Sec-Fetch-Site': 'same-origin',
        'Sec-Fetch-Dest': 'empty',
        'User-Agent': 'Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0',
        ...headers,
      },
      body: body === undefined ? undefined : JSON.stringify(body),
    })
    return { status: response.status, body: await response.json() }
  }
}

/** All its components, and what becomes of what they ask for. */
export async function dashboard(office) {
  await login(office)
  await dashSwitches(office)
  await dashHosts(office)
  await domains(office)
  await repos(office)
  await newPds(office)
  await consumers(office)
  await otherPages(office)
}

/** A request that must be answered 200 with this body, and what the audit log must say of it. */
async function done({ browser, report, deeds }, name, path, body, subject) {
  const answer = await browser.call('POST', path, body)
  report.check(`dashboard: ${name}`, differs(answer, { status: 200, body: SUCCESS }), path)
  deeds.push(`${path.split('?')[0].replace('/admin/', '')} ${subject}`)
}

async function login({ browser, relay, report }) {
  const { status } = await browser.call('GET', '/admin/pds/list')
  const wrong = await new Browser(relay.http, 'wrong').call('GET', '/admin/pds/list')
  report.check('dashboard: log in', differs([status, wrong.status], [200, 401]))
  const said = typeof wrong.body.error
  report.check('dashboard: a wrong password is told apart by `error`', differs(said, 'string'))
}

/** Dash: whether hosts may ask to be crawled, and how many new ones a day. */
async function dashSwitches(office) {
  const { browser, relay, report } = office
  const read = async (path) => (await browser.call('GET', `/admin/subs/${path}`)).body
  report.check(
    'dashboard: crawling is enabled',
    differs(await read('getEnabled'), { enabled: true }),
  )
  await done(
    office,
    'disable it',
    '/admin/subs/setEnabled?enabled=false',
    undefined,
    'request_crawl',
  )
  report.check('dashboard: it is', differs(await read('getEnabled'), { enabled: false }))
  const refused = await requestCrawl(relay, 'pds.example.com')
  report.check('a new host that asks is refused', differs(refused, 403))
  await done(office, 'enable it', '/admin/subs/setEnabled?enabled=true', undefined, 'request_crawl')
  report.check('dashboard: it is', differs(await read('getEnabled'), { enabled: true }))
  report.check('dashboard: new hosts a day', differs(await read('perDayLimit'), { limit: 1 }))
  const limit = '/admin/subs/setPerDayLimit?limit=7'
  await done(office, 'other limit', limit, undefined, 'new_hosts_per_day')
  report.check('dashboard: new hosts a day now', differs(await read('perDayLimit'), { limit: 7 }))
}

/** Dash: asks as anybody may. */
async function requestCrawl(relay, hostname) {
  const response = await fetch(`${relay.http}/xrpc/com.atproto.sync.requestCrawl`, {
    method: 'POST',
    headers: { 'Content-Type': 'application/json', Origin: relay.http },
    body: JSON.stringify({ hostname }),
  })
  return response.status
}

/** Dash: the table of hosts, and the buttons in it. */
async function dashHosts(office) {
  const { browser, relay, report, one, two, alice } = office
  const list = async () => (await browser.call('GET', '/admin/pds/list')).body
  const rowOf = async (pds) => (await list()).find((row) => row.Host === pds.host)
  const rows = await list()
  const problems = rows.flatMap((row) => mistyped(row, PDS))
  report.check('dashboard: the table of hosts', problems, `${rows.length} rows`)

  const row = await rowOf(one)
  const limits = {
    host: row.Host,
    per_second: row.PerSecondEventRate.Max,
    per_hour: row.PerHourEventRate.Max,
    per_day: row.PerDayEventRate.Max,
    repo_limit: 12,
  }
  await done(office, 'other limit of a host', '/admin/pds/changeLimits', limits, one.host)
  const { RepoLimit, ...rest } = await rowOf(one)
  const { RepoLimit: _, ...before } = row
  report.check('dashboard: the limit of accounts is another one', differs(RepoLimit, 12))
  report.check('and nothing else', differs(rest, before))

  const kill = (block) => `/admin/subs/killUpstream?host=${one.host}&block=${block}`
  const upgrades = one.upgrades.length
  await done(office, 'disconnect a host', kill(false), undefined, one.host)
  await office.soon('it is connected to anew', async () => {
    return one.upgrades.length > upgrades ? [] : ['no new connection']
  })
  await office.sees('and active', one, 'active')
  report.is('and heard', await office.hears(alice))
  await done(office, 'block a host that is connected', kill(true), undefined, one.host)
  await office.sees('it is banned', one, 'banned')
  const { Blocked, HasActiveConnection } = await rowOf(one)
  report.check(
    'dashboard: so says the table',
    differs([Blocked, HasActiveConnection], [true, false]),
  )
  const again = await browser.call('POST', kill(false))
  const { status, body } = again
  report.check('dashboard: there is nothing to disconnect', differs(status, 400), body.message)
  report.check(
    'a blocked host that asks is refused',
    differs(await requestCrawl(relay, one.host), 403),
  )
  const unblock = `/admin/pds/unblock?host=${one.host}`
  await done(office, 'unblock it', unblock, undefined, one.host)
  await office.sees('it is active', one, 'active')
  await done(office, 'block a host', `/admin/pds/block?host=${two.host}`, undefined, two.host)
  await office.sees('it is banned', two, 'banned')
  await done(office, 'unblock it', `/admin/pds/unblock?host=${two.host}`, undefined, two.host)
  await office.sees('it is active', two, 'active')
  report.check('crawl a known host', differs(await requestCrawl(relay, two.host), 200))
}

/** Domains */
async function domains(office) {
  const { browser, report } = office
  const list = async () => (await browser.call('GET', '/admin/subs/listDomainBans')).body
  const body = { Domain: 'example.org' }
  report.check('dashboard: banned domains, none', differs(await list(), { banned_domains: [] }))
  await done(office, 'ban a domain', '/admin/subs/banDomain', body, body.Domain)
  report.check(
    'dashboard: banned domains',
    differs(await list(), { banned_domains: [body.Domain] }),
  )
  await done(office, 'unban a domain', '/admin/subs/unbanDomain', body, body.Domain)
  report.check('dashboard: banned domains, none', differs(await list(), { banned_domains: [] }))
}

/** Repos */
async function repos(office) {
  const { browser, relay, report, dave, silent } = office
  const body = { did: dave.did }
  const state = async () => {
    const { active, status } = (await relay.sync('getRepoStatus', body)).body
    return [active, status]
  }
  await done(office, 'take an account down', '/admin/repo/takeDown', body, dave.did)
  report.check('it is', differs(await state(), [false, 'takendown']))
  await done(office, 'take that back', '/admin/repo/reverseTakedown', body, dave.did)
  report.check('it is active', differs(await state(), [true, undefined]))
  const unknown = await browser.call('POST', '/admin/repo/takeDown', { did: silent.did })
  report.check(
    'dashboard: an account that is not known is told by `error`',
    differs([unknown.status, unknown.body.error], [404, 'RepoNotFound']),
  )
}

/** NewPDS: reads `error` in the answer, also in that of 200. */
async function newPds({ browser, deeds, report, two }) {
  const add = (hostname) => browser.call('POST', '/admin/pds/requestCrawl', { hostname })
  const { status, body } = await add(two.host)
  report.check('dashboard: add a host', differs([status, body.error], [200, undefined]), body.state)
  deeds.push(`pds/requestCrawl ${two.host}`)
  const refused = await add('not a host')
  report.check(
    'dashboard: what is no host is told by `error`',
    differs([refused.status, typeof refused.body.error], [400, 'string']),
    refused.body.message,
  )
}

/** Consumers */
function consumers(office) {
  const { browser, output } = office
  return office.soon('dashboard: the table of consumers', async () => {
    const { body: rows } = await browser.call('GET', '/admin/consumers/list')
    const problems = rows.flatMap((row) => mistyped(row, CONSUMER))
    const counts = rows.map((row) => row.events_consumed)
    return [...problems, ...differs(counts, [output.frames.length])]
  })
}

/** Nothing is done for a page of somebody else, though the browser knows the password. */
async function otherPages({ browser, report }) {
  const body = { Domain: 'example.net' }
  for (const headers of [
    { Origin: 'https://evil.example', 'Sec-Fetch-Site': 'cross-site' },
    { Origin: 'https://evil.example', 'Sec-Fetch-Site': '' },
  ]) {
    const { status } = await browser.call('POST', '/admin/subs/banDomain', body, headers)
    report.check('another page may ask nothing of that', differs(status, 403), headers.Origin)
  }
  const { body: list } = await browser.call('GET', '/admin/subs/listDomainBans')
  report.check('and nothing was done', differs(list, { banned_domains: [] }))
}
