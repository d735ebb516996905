// What an operator does: every subcommand of `goat relay`, and every request of the reference relay's
// dashboard, on a relay of its own. That it ends well is not enough: what it did is looked at from
// outside, in the queries, on the pages and in the firehose.
import { setTimeout as sleep } from 'node:timers/promises'
import { differs, mistyped } from './compare.mjs'
import { contract } from './contract.mjs'
import { dashboard } from './dashboard.mjs'
import { goatRelay } from './goat.mjs'
import { Office, PASSWORD } from './office.mjs'
import { AGENT, Recorder } from './recorder.mjs'

/** The reference relay's rows of hosts, and the type of each field. */
const HOST_ROW = {
  ID: 'number',
  CreatedAt: 'date',
  Host: 'string',
  SSL: 'boolean',
  Cursor: 'number',
  Registered: 'boolean',
  Blocked: 'boolean',
  CrawlRateLimit: 'number',
  RepoCount: 'number',
  RepoLimit: 'number',
  HasActiveConnection: 'boolean',
  EventsSeenSinceStartup: 'number',
  PerSecondEventRate: { Max: 'number', Window: 'number' },
  PerHourEventRate: { Max: 'number', Window: 'number' },
  PerDayEventRate: { Max: 'number', Window: 'number' },
  UserCount: 'number',
  AccountLimitAlertsSilenced: 'boolean',
  AccountLimitAlertState: 'string',
}
const CONSUMER_ROW = {
  id: 'number',
  remote_addr: 'string',
  user_agent: 'string',
  events_consumed: 'number',
  connected_at: 'date',
}

/** The whole act. `network`: one of its own, which nobody has listened to yet. */
export async function operate({ installed, frames, network, bin, port, folder, report, say }) {
  const office = new Office({ installed, frames, network, bin, port, folder, report })
  try {
    await office.open()
    for (const act of [
      nothing,
      strangers,
      hosts,
      accounts,
      consumers,
      limits,
      blocks,
      domains,
      takedowns,
      differences,
    ]) {
      await act(office)
      say(`operator: ${act.name}`)
    }
    await dashboard(office)
    say('operator: dashboard')
    await audit(office)
    // Last, because it bans, limits and takes down whatever it finds.
    await described(office)
    say('operator: the description')
  } finally {
    await office.close()
  }
}

/** An empty relay has empty lists, and goat can read them. */
async function nothing(office) {
  office.ran('goat relay host list: none yet', await office.goat('host', 'list'), [])
  office.ran('goat relay account list: none yet', await office.goat('account', 'list'), [])
  for (const what of ['host', 'account', 'domain', 'consumer']) {
    const done = await office.admin(what, 'list')
    office.ran(`goat relay admin ${what} list: none yet`, done, [])
  }
}

/** Who has not the password is let nowhere. */
async function strangers(office) {
  const { goat, report } = office
  const wrong = /relay HTTP request failed: 401/
  for (const login of ['--admin-password', '--admin-bearer-token']) {
    for (const args of [
      ['host', 'list'],
      ['domain', 'ban', 'example.com'],
    ]) {
      const done = await goat.call(office, 'admin', login, 'wrong', ...args)
      office.failed(`goat relay admin ${login} wrong ${args[0]} ${args[1]} fails`, done, wrong)
    }
  }
  const { lines } = await office.bearer('domain', 'list')
  report.check('and does nothing', differs(lines, []))
}

/** Hosts come, by anybody's request and by the operator's, and are listed. */
async function hosts(office) {
  const { one, two, relay, report, network } = office
  const ask = (pds) => office.goat('host', 'request-crawl', pds.host)
  office.ran('goat relay host request-crawl', await ask(one), ['success'])
  await office.sees('the relay connects to the host', one, 'active')
  office.failed('a second new host a day is over the limit here', await ask(two), /429/)
  const missing = await office.goat('host', 'status', two.host)
  office.failed('goat relay host status fails for what is no host', missing, /HostNotFound/)
  office.ran(
    'goat relay admin host add: no limit holds',
    await office.bearer('host', 'add', two.host),
  )
  await office.sees('the relay connects to that host too', two, 'active')
  office.ran('goat relay host request-crawl of a known host', await ask(two), ['success'])
  const private_ = await office.admin('host', 'add', 'no.such.host.invalid')
  office.failed('goat relay admin host add fails for what is no host', private_, /failed: 4\d\d/)

  const { frames, installed } = office
  office.output = new Recorder({ WebSocket: frames.installed('ws'), frames, url: relay.ws })
  await office.output.opened
  // One after the other, so that the relay sees them in this order.
  for (const [name, pds] of [
    ['alice', one],
    ['dave', two],
  ]) {
    office[name] = await pds.createAccount(name)
    report.is(`what ${name} writes is in the firehose`, await office.hears(office[name]))
  }
  await office.soon('goat relay host list: what listHosts says', async () => {
    const { body } = await relay.sync('listHosts')
    const { lines } = await office.goat('host', 'list')
    const wanted = body.hosts.map((h) => [h.hostname, h.status, h.accountCount, h.seq].join('\t'))
    const seqs = await Promise.all(network.pdses.map(async (pds) => [pds.host, await pds.seq()]))
    const expected = seqs.map(([host, seq]) => [host, 'active', 1, seq].join('\t'))
    return [...differs(lines, wanted), ...differs(lines, expected)]
  })
  const list = await office.goat('host', 'list', '--json')
  const { body } = await relay.sync('listHosts')
  report.check('goat relay host list --json', differs(list.lines.map(JSON.parse), body.hosts))
  const [first] = body.hosts
  const status = await office.goat('host', 'status', one.host)
  const line = [one.host, 'active', 1, first.seq].join('\t')
  office.ran('goat relay host status', status, [line])
  const json = await office.goat('host', 'status', '--json', one.host)
  report.check('goat relay host status --json', differs(json.lines.map(JSON.parse), [first]))
  await rows(office)
}

/** `admin host list` has every key of the reference relay, of the right type. */
async function rows(office) {
  const { report, network } = office
  const rows = await office.rows()
  report.check(
    'goat relay admin host list: every field of the reference relay',
    [...rows.values()].flatMap((row) => mistyped(row, HOST_ROW)),
    `${rows.size} hosts, ${Object.keys(HOST_ROW).length} fields`,
  )
  for (const pds of network.pdses) {
    const row = rows.get(pds.host)
    const { ID, CreatedAt, EventsSeenSinceStartup: events, ...rest } = row
    const problems = differs(rest, {
      Host: pds.host,
      SSL: false,
      Cursor: await pds.seq(),
      Registered: true,
      Blocked: false,
      CrawlRateLimit: 0,
      RepoCount: 1,
      RepoLimit: 100,
      HasActiveConnection: true,
      PerSecondEventRate: { Max: 50, Window: 1 },
      PerHourEventRate: { Max: 2501, Window: 3600 },
      PerDayEventRate: { Max: 20010, Window: 86400 },
      UserCount: 1,
      AccountLimitAlertsSilenced: false,
      AccountLimitAlertState: 'none',
    })
    if (!(ID > 0 && events > 0)) problems.push(`ID ${ID}, ${events} events`)
    if (Math.abs(Date.now() - Date.parse(CreatedAt)) > 600_000) problems.push(CreatedAt)
    report.check(`and what they say of ${pds.name} is so`, problems, `${events} events`)
  }
}

/** Accounts are listed as their hosts have them. */
async function accounts(office) {
  const { alice, dave, silent, relay, report } = office
  const known = [alice, dave]
  const heads = await Promise.all(known.map((account) => headOf(account)))
  const lines = known.map(({ did }, i) => [did, 'active', heads[i].rev].join('\t'))
  office.ran('goat relay account list', await office.goat('account', 'list'), lines)
  const json = await office.goat('account', 'list', '--json')
  const { body } = await relay.sync('listRepos')
  report.check('goat relay account list --json', differs(json.lines.map(JSON.parse), body.repos))
  const listed = body.repos.map(({ did, head, rev, active }) => ({ did, head, rev, active }))
  const wanted = known.map(({ did }, i) => ({ did, ...heads[i], active: true }))
  report.check('and that is what the hosts have', differs(listed, wanted))
  await collection(office)
  const status = await office.goat('account', 'status', alice.did)
  office.ran('goat relay account status', status, lines.slice(0, 1))
  const said = await office.goat('account', 'status', '--json', alice.did)
  const rev = heads[0].rev
  report.check(
    'goat relay account status --json',
    differs(said.lines.map(JSON.parse), [{ active: true, did: alice.did, rev }]),
  )
  const unknown = await office.goat('account', 'status', silent.did)
  office.failed('goat relay account status fails for an unknown account', unknown, /RepoNotFound/)
}

/** What a host has of an account. */
async function headOf(account) {
  const params = { did: account.did }
  const { cid, rev } = await account.pds.call('com.atproto.sync.getLatestCommit', { params })
  return { head: cid, rev }
}

/** Accounts with records of a collection are listed as their hosts have them. */
async function collection(office) {
  const wanted = []
  for (const { did, pds } of [office.alice, office.dave]) {
    const params = { repo: did }
    const { collections } = await pds.call('com.atproto.repo.describeRepo', { params })
    if (collections.includes('app.bsky.feed.post')) wanted.push(did)
  }
  const done = await office.goat('account', 'list', '--collection', 'app.bsky.feed.post')
  done.lines.sort()
  office.ran('goat relay account list --collection', done, wanted.sort())
}

/** Who subscribes is listed. */
async function consumers(office) {
  await office.soon('goat relay admin consumer list', async () => {
    const { code, lines } = await office.admin('consumer', 'list')
    const rows = lines.map((line) => JSON.parse(line))
    const seen = rows.map((row) => {
      return [row.user_agent, row.events_consumed, hostPart(row.remote_addr)]
    })
    return [
      ...differs([code, seen], [0, [[AGENT, office.output.frames.length, 'loopback']]]),
      ...rows.flatMap((row) => mistyped(row, CONSUMER_ROW)),
    ]
  })
}

const hostPart = (address = '') => (/^(127\.|::1$|\[::1\])/.test(address) ? 'loopback' : address)

/** A host with as many accounts as it may have gets no further one, until it may. */
async function limits(office) {
  const { one, two, alice, relay, report, output } = office
  const config = (limit, host = one.host) =>
    office.admin('host', 'config', '--account-limit', String(limit), host)
  const limitOf = async (pds) => (await office.rows()).get(pds.host).RepoLimit
  const shown = async (pds) => (await relay.get(`/hosts/${pds.host}.json`)).body.account_limit
  const check = async (name, limit) => {
    const is = [await limitOf(one), await shown(one), await limitOf(two), await shown(two)]
    report.check(
      `${name}: in the list and on the host's page`,
      differs(is, [limit, limit, 100, 100]),
    )
  }
  office.ran('goat relay admin host config --account-limit 1', await config(1))
  await check('the limit of this host only', 1)
  const bob = await one.createAccount('bob')
  report.is('who was there goes on', await office.hears(alice))
  await bob.post('is there room?')
  report.is('and then', await office.hears(alice))
  const commits = () => office.events(bob).filter((frame) => frame.t === '#commit')
  report.check('an account over the limit is not heard', differs(commits().length, 0))
  const status = async () => (await relay.sync('getRepoStatus', { did: bob.did })).body
  const { active, status: word } = await status()
  report.check('and is throttled', differs({ active, word }, { active: false, word: 'throttled' }))
  const place = output.frames.length
  office.ran('goat relay admin host config --account-limit 7', await config(7))
  await check('the higher limit', 7)
  await output.until(() => office.events(bob, place).length > 0, 5000)
  checkAccountEvents(office, bob, place, { active: true, status: undefined })
  report.check('the account that has room now is active', differs((await status()).active, true))
  report.is('and heard', await office.hears(bob))
  const unknown = await config(7, 'pds.example.com')
  office.failed('goat relay admin host config fails for what is no host', unknown, /failed: 404/)
  const nothing = await office.admin('host', 'config', one.host)
  office.failed(
    'goat relay admin host config without a limit changes nothing',
    nothing,
    /failed: 400/,
  )
  await check('the limit is what it was', 7)
  office.bob = bob
}

/** A blocked host is not heard, and a host that is no longer blocked is heard from where it was. */
async function blocks(office) {
  const { one, two, alice, dave, report, output } = office
  const place = output.frames.length
  office.ran('goat relay admin host block', await office.admin('host', 'block', one.host))
  await office.sees('the host is banned, and the relay not connected', one, 'banned')
  const row = (await office.rows()).get(one.host)
  const { Blocked, Registered, HasActiveConnection, PerDayEventRate } = row
  report.check(
    'so says goat relay admin host list',
    differs(
      [Blocked, Registered, HasActiveConnection, PerDayEventRate.Max],
      [true, false, false, -1],
    ),
  )
  const line = (await office.goat('host', 'status', one.host)).lines[0]?.split('\t')[1]
  report.check('and goat relay host status', differs(line, 'banned'))
  const upgrades = one.upgrades.length
  await alice.post('nobody hears me')
  const again = await office.goat('host', 'request-crawl', one.host)
  office.failed('a blocked host is not crawled when asked for', again, /HostBanned/)
  report.is('another host is heard', await office.hears(dave))
  report.check('the blocked one is not', differs(office.events(alice, place).length, 0))
  report.check('and was not connected to', differs(one.upgrades.length, upgrades))
  const free = await office.bearer('host', 'block', '--reverse', one.host)
  office.ran('goat relay admin host block --reverse', free)
  await office.sees('the relay connects again', one, 'active')
  report.is('the host is heard', await office.hears(alice))
  report.check('and what it said meanwhile too', differs(office.events(alice, place).length, 2))
  const unknown = await office.admin('host', 'block', 'pds.example.com')
  office.failed('goat relay admin host block fails for what is no host', unknown, /failed: 404/)
  await office.sees('the other host was never touched', two, 'active')
}

/** A banned domain takes every host below it along. */
async function domains(office) {
  const { alice, dave, network, report, output } = office
  const ban = (...args) => office.admin('domain', 'ban', ...args)
  office.ran('goat relay admin domain ban of one without hosts', await ban('example.com'))
  office.ran('goat relay admin domain ban', await ban('localhost'))
  const list = await office.admin('domain', 'list')
  office.ran('goat relay admin domain list', list, ['example.com', 'localhost'])
  for (const pds of network.pdses) await office.sees(`${pds.name} is banned`, pds, 'banned')
  const wrong = await ban('no domain')
  office.failed('goat relay admin domain ban fails for what is no domain', wrong, /failed: 400/)
  const host = await office.admin('host', 'add', 'pds.example.com')
  office.failed('no host below it is added, not even by the operator', host, /failed: 403/)
  const place = output.frames.length
  for (const account of [alice, dave]) await account.post('nobody hears us')
  await sleep(300) // for what must not come
  report.check('nothing of them is heard', differs(output.frames.length, place))
  for (const domain of ['localhost', 'example.com']) {
    office.ran(`goat relay admin domain ban --reverse ${domain}`, await ban('--reverse', domain))
  }
  office.ran('and the list is empty', await office.admin('domain', 'list'), [])
  for (const pds of network.pdses) await office.sees(`${pds.name} is connected to`, pds, 'active')
  for (const account of [alice, dave]) {
    report.is(`${account.handle} is heard`, await office.hears(account))
    const { length } = office.events(account, place)
    report.check('with what it said meanwhile', differs(length, 2))
  }
}

/** An account that is taken down is said to be so, everywhere, and not heard. */
async function takedowns(office) {
  const { alice, bob, silent, relay, report, output } = office
  const takedown = (...args) => office.admin('account', 'takedown', ...args)
  const place = output.frames.length
  office.ran('goat relay admin account takedown', await takedown(alice.did))
  office.ran('goat relay admin account list', await office.bearer('account', 'list'), [alice.did])
  await alice.post('nobody hears me')
  report.is('others of its host are heard', await office.hears(bob))
  checkAccountEvents(office, alice, place, { active: false, status: 'takendown' })
  const status = await office.goat('account', 'status', alice.did)
  office.ran('goat relay account status', status, [[alice.did, 'takendown', ''].join('\t')])
  for (const query of ['getLatestCommit', 'getRepo']) {
    const { status: code, body } = await relay.sync(query, { did: alice.did })
    const is = [code >= 400 && code < 500, body?.error]
    report.check(`${query} refuses`, differs(is, [true, 'RepoTakendown']), `status ${code}`)
  }
  const listed = (await office.goat('account', 'list')).lines.find((l) => l.startsWith(alice.did))
  report.check('goat relay account list says so', differs(listed?.split('\t')[1], 'takendown'))
  const unseen = await takedown(silent.did)
  office.failed('an account that was never seen can not be taken down', unseen, /failed: 404/)
  const nobody = await takedown('did:plc:aaaaaaaaaaaaaaaaaaaaaaaa')
  office.failed('nor one that the directory does not know', nobody, /DID not found/)

  const back = output.frames.length
  office.ran('goat relay admin account takedown --reverse', await takedown('--reverse', alice.did))
  office.ran('and the list is empty', await office.admin('account', 'list'), [])
  await output.until(() => office.events(alice, back).length > 0, 5000)
  checkAccountEvents(office, alice, back, { active: true, status: undefined })
  report.is('the account is heard', await office.hears(alice))
  const after = (await relay.sync('getLatestCommit', { did: alice.did })).body
  const { head, rev } = await headOf(alice)
  report.check('and getLatestCommit answers', differs(after, { cid: head, rev }))
}

/** All that the firehose says of an account from a place on is one `#account` event. */
function checkAccountEvents({ report, events, output }, account, place, { active, status }) {
  const seen = events.call({ output }, account, place).map(({ t, body }) => {
    return { t, active: body.active, status: body.status }
  })
  const name = `one #account event says active ${active}, and no other event comes`
  report.check(name, differs(seen, [{ t: '#account', active, status }]))
}

/** `host diff` finds what two relays know differently, and nothing else. */
async function differences(office) {
  const { alice, dave, network, one, two, relay, port, report } = office
  const other = office.another('other', port + 2, { RELAY_ADMIN_PASSWORD: PASSWORD })
  const diff = (...args) => office.goat('host', 'diff', ...args, relay.http, other.http)
  const seqs = async () => {
    for (const account of [alice, dave]) await office.hears(account)
    return Promise.all(network.pdses.map((pds) => pds.seq()))
  }
  try {
    await other.start()
    await other.requestCrawl(one.host)
    await until(
      async () => (await other.get(`/hosts/${one.host}.json`)).body?.state === 'connected',
    )
    const first = await seqs()
    await until(async () => {
      const { body } = await other.sync('getHostStatus', { hostname: one.host })
      return body.seq === first[0]
    })
    const missing = `${two.host}\tactive/${first[1]}\t\tB-missing`
    office.ran('goat relay host diff: a host that is missing', await diff(), [missing])
    await other.requestCrawl(two.host)
    await until(
      async () => (await other.get(`/hosts/${two.host}.json`)).body?.state === 'connected',
    )
    const now = await seqs()
    const same = network.pdses.map(({ host }, i) => {
      return `${host}\tactive/${now[i]}\tactive/${now[i]}\tsync`
    })
    await until(async () => (await diff('--verbose')).lines.every((line) => line.endsWith('sync')))
    office.ran('goat relay host diff --verbose: the same hosts', await diff('--verbose'), same)
    office.ran('goat relay host diff: no difference', await diff(), [])
    const args = ['admin', '--admin-password', PASSWORD, 'host', 'block', one.host]
    const blocked = await goatRelay(office.installed, other.http, args)
    const wanted = `${one.host}\tactive/${now[0]}\tbanned/${now[0]}\tdiff-status`
    report.check('one of two relays blocks a host', differs(blocked.code, 0), blocked.error)
    office.ran('goat relay host diff: a status that differs', await diff(), [wanted])
  } finally {
    await other.end('SIGKILL', 2000)
  }
}

/** The relay answers as docs/openapi.yaml says. */
function described({ relay, report, installed, folder, network, alice, bob, dave }) {
  const dids = [alice, bob, dave].map(({ did }) => did)
  const hosts = network.pdses.map(({ host }) => host)
  const known = { dids, hosts, collections: ['app.bsky.feed.post'] }
  return contract({ relay, report, python: installed.python, folder, password: PASSWORD, known })
}

async function until(holds, ms = 10_000) {
  const deadline = Date.now() + ms
  while (Date.now() < deadline && !(await holds())) await sleep(50)
}

/** All that was done, and nothing that was refused, is in the audit log. */
async function audit(office) {
  const { browser, deeds, report } = office
  const { status, body } = await browser.call('GET', '/admin/audit')
  const entries = body.entries?.toReversed() ?? []
  const found = entries.map(({ action, subject }) => `${action} ${subject}`)
  report.check('the audit log has every deed', differs(found, deeds), `${found.length} entries`)
  const types = { id: 'number', time: 'date', actor: 'string', action: 'string', subject: 'string' }
  const problems = entries.flatMap((entry) => mistyped(entry, types))
  if (status !== 200) problems.push(`status ${status}`)
  for (const { actor } of entries) {
    if (hostPart(actor) !== 'loopback') problems.push(`by ${actor}`)
  }
  report.check('with when it was done, and from where', problems)
}
