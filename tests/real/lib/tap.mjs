// tap, from indigo, which copies the repositories of a network into a database of its own: it asks
// the relay for the accounts, their PDSes for the repositories, and follows the stream. Its copy must
// be what the PDSes have.
import { spawn } from 'node:child_process'
import { createWriteStream, mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { setTimeout as sleep } from 'node:timers/promises'

export class Tap {
  /** `mode`: variables that say which accounts it copies. */
  constructor({ stage, port, folder, name, mode }) {
    Object.assign(this, { stage, name })
    this.url = `http://localhost:${port}`
    /** The CID of every record, by `DID/collection/key`, as it told its reader. */
    this.records = new Map()
    this.counts = { historical: 0, live: 0 }
    this.errors = []
    const cwd = join(folder, name)
    mkdirSync(cwd)
    const { installed, relay, network } = stage
    const env = {
      TAP_BIND: `localhost:${port}`,
      TAP_DATABASE_URL: `sqlite://${join(cwd, 'tap.db')}`,
      TAP_RELAY_URL: relay.http,
      TAP_PLC_URL: network.plc.url,
      TAP_DISABLE_ACKS: 'true',
      ...mode,
    }
    this.child = spawn(installed.tap, ['run'], { cwd, env, stdio: ['ignore', 'pipe', 'pipe'] })
    this.child.on('error', (error) => this.errors.push(error.message))
    const log = createWriteStream(join(cwd, 'log'))
    this.child.stderr.pipe(log)
    createInterface({ input: this.child.stdout }).on('line', (line) => {
      log.write(`${line}\n`)
      if (line.includes('"level":"ERROR"')) this.errors.push(line)
    })
  }

  /** Waits until it listens, and reads what it has to say. */
  async open() {
    const listens = () =>
      fetch(`${this.url}/health`).then(
        ({ ok }) => ok,
        () => false,
      )
    if (!(await until(listens))) throw new Error('tap does not start')
    this.channel = new this.stage.WebSocket(`${this.url.replace('http', 'ws')}/channel`)
    this.channel.on('message', (data) => this.hear(JSON.parse(data)))
    this.channel.on('error', (error) => this.errors.push(error.message))
  }

  hear({ type, record }) {
    if (type !== 'record') return
    this.counts[record.live ? 'live' : 'historical']++
    const key = `${record.did}/${record.collection}/${record.rkey}`
    if (record.action === 'delete') this.records.delete(key)
    else this.records.set(key, record.cid)
  }

  /** Waits until it has copied the repositories of these accounts. */
  copied(dids) {
    const isCopied = async (did) => {
      const { state } = await (await fetch(`${this.url}/info/${did}`)).json()
      return state === 'active'
    }
    return until(async () => (await Promise.all(dids.map(isCopied))).every(Boolean))
  }

  /** How many accounts it knows. */
  async repoCount() {
    return (await (await fetch(`${this.url}/stats/repo-count`)).json()).repo_count
  }

  /** What of its copy of these accounts is not what their PDSes have. */
  async differences(accounts, collections) {
    const wanted = new Map(
      (await Promise.all(accounts.map((a) => recordsOf(a, collections)))).flat(),
    )
    const wrong = () => {
      const dids = new Set(accounts.map(({ did }) => did))
      const mine = [...this.records].filter(([key]) => dids.has(key.split('/')[0]))
      return [
        ...mine.filter(([key, cid]) => wanted.get(key) !== cid).map(([key]) => `too much: ${key}`),
        ...[...wanted]
          .filter(([key, cid]) => this.records.get(key) !== cid)
          .map(([key]) => `missing: ${key}`),
      ]
    }
    await until(() => wrong().length === 0)
    const problems = [...wrong(), ...this.errors]
    if (wanted.size === 0) problems.push('there are no records')
    return { problems, seen: `${accounts.length} accounts, ${wanted.size} records` }
  }

  stop() {
    this.channel?.terminate()
    this.child.kill('SIGKILL')
  }
}

/** Every record that a PDS has of an account, of these collections or of all. */
async function recordsOf({ did, pds }, collections) {
  const call = (name, params) => pds.call(`com.atproto.repo.${name}`, { params })
  const described = await call('describeRepo', { repo: did })
  const records = []
  for (const collection of described.collections) {
    if (collections && !collections.includes(collection)) continue
    let cursor
    do {
      const params = { repo: did, collection, limit: 100, ...(cursor && { cursor }) }
      const page = await call('listRecords', params)
      records.push(...page.records.map(({ uri, cid }) => [uri.replace('at://', ''), cid]))
      cursor = page.records.length ? page.cursor : undefined
    } while (cursor)
  }
  return records
}

async function until(holds, ms = 20_000) {
  const deadline = Date.now() + ms
  for (;;) {
    if (await holds()) return true
    if (Date.now() > deadline) return false
    await sleep(100)
  }
}
