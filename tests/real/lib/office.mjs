// Where the operator works: a relay, who writes on its hosts, and goat at hand; and how to look, from
// outside, at what came of a command.
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { differs } from './compare.mjs'
import { Browser } from './dashboard.mjs'
import { didOf } from './frames.mjs'
import { goatRelay } from './goat.mjs'
import { Relay } from './relay.mjs'
import { directoryClient } from './scenario.mjs'

/** The operator's password; Basic has to get along with its colon. */
export const PASSWORD = 'a pass:word'

/** What the audit log calls what goat does. */
const DEEDS = {
  'host add': 'pds/requestCrawl',
  'host block': 'pds/block',
  'host block --reverse': 'pds/unblock',
  'host config': 'pds/changeLimits',
  'domain ban': 'subs/banDomain',
  'domain ban --reverse': 'subs/unbanDomain',
  'account takedown': 'repo/takeDown',
  'account takedown --reverse': 'repo/reverseTakedown',
}

/** The relay, who writes on its hosts, and the operator at the keyboard. */
export class Office {
  constructor(parts) {
    Object.assign(this, parts)
    /** What the operator has changed, as the audit log names it. */
    this.deeds = []
    ;[this.one, this.two] = this.network.pdses
    this.relay = this.another('operator', this.port, {
      RELAY_ADMIN_PASSWORD: PASSWORD,
      RELAY_NEW_HOSTS_PER_DAY_LIMIT: '1',
    })
    this.browser = new Browser(this.relay.http, PASSWORD)
  }

  another(name, port, env) {
    const { bin, folder, network } = this
    return new Relay({
      bin,
      port,
      metricsPort: port + 1,
      dataDir: join(folder, name),
      plcUrl: network.plc.url,
      log: join(folder, `${name}.log`),
      env,
    })
  }

  async open() {
    const directory = directoryClient(this.frames.installed, this.network.plc.url)
    this.silent = { did: await directory.createAlone('silent.pds1.test', this.one) }
    await this.relay.start()
  }

  async close() {
    this.output?.stop()
    await this.relay.end?.('SIGKILL', 2000)
  }

  /** `goat relay …`. */
  goat(...args) {
    return goatRelay(this.installed, this.relay.http, args)
  }

  /** `goat relay admin …`, logged in. What ends well is expected in the audit log. */
  async admin(...args) {
    const done = await this.goat('admin', '--admin-password', PASSWORD, ...args)
    this.did(args, done)
    return done
  }

  /** The same with the password as a token. */
  async bearer(...args) {
    const done = await this.goat('admin', '--admin-bearer-token', PASSWORD, ...args)
    this.did(args, done)
    return done
  }

  did(args, done) {
    const [what, verb] = args
    const action = DEEDS[`${what} ${verb}${args.includes('--reverse') ? ' --reverse' : ''}`]
    if (action && done.code === 0) this.deeds.push(`${action} ${args.at(-1)}`)
  }

  /** A command that must end well; `lines`: what it must print. */
  ran(name, done, lines) {
    const problems = done.code === 0 ? [] : [`exit code ${done.code}: ${done.error}`]
    if (lines) problems.push(...differs(done.lines, lines))
    this.report.check(name, problems, done.lines.slice(0, 3).join(' | ').slice(0, 160))
  }

  /** A command that must fail, because of what `reason` matches. */
  failed(name, done, reason) {
    const right = done.code !== 0 && reason.test(done.error)
    const said = done.error.split('\n').at(-1)
    this.report.is(name, right && done.lines.length === 0, `exit code ${done.code}: ${said}`)
  }

  /** A check of what must be so soon. */
  async soon(name, look, ms = 10_000) {
    const deadline = Date.now() + ms
    let problems = []
    for (;;) {
      problems = await look().catch((error) => [error.message])
      if (problems.length === 0 || Date.now() > deadline) break
      await sleep(50)
    }
    this.report.check(name, problems)
  }

  /** `goat relay admin host list`, by host. */
  async rows() {
    const { lines } = await this.goat('admin', '--admin-bearer-token', PASSWORD, 'host', 'list')
    return new Map(lines.map((line) => JSON.parse(line)).map((row) => [row.Host, row]))
  }

  /** What anybody sees of a host: its status, and whether the relay is connected to it. */
  async seen(pds) {
    const { body } = await this.relay.sync('getHostStatus', { hostname: pds.host })
    const { body: page } = await this.relay.get(`/hosts/${pds.host}.json`)
    return { status: body.status, page: page.status, connected: page.state === 'connected' }
  }

  /** A check that a host is soon seen so. */
  sees(name, pds, status) {
    const connected = status === 'active'
    return this.soon(name, async () =>
      differs(await this.seen(pds), { status, page: status, connected }),
    )
  }

  /** The events of an account in the firehose, from a place in it on. */
  events(account, from = 0) {
    return this.output.frames.slice(from).filter((frame) => didOf(frame) === account.did)
  }

  /** Waits until the firehose brings what an account writes now; false: it does not. */
  async hears(account, ms = 10_000) {
    const rkey = (await account.post('can you hear me?')).uri.split('/').pop()
    const path = `app.bsky.feed.post/${rkey}`
    const brings = (frame) => frame.body.ops?.some((op) => op.path === path)
    return this.output.until(() => this.events(account).some(brings), ms)
  }
}
