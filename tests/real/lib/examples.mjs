// The subscribers of docs/examples, beside each other, on a simulated network: each is killed and started
// again, and the relay is killed and stopped. What they print must be the same, without a gap.
import { spawn } from 'node:child_process'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { createInterface } from 'node:readline'
import { setTimeout as sleep } from 'node:timers/promises'
import { Relay } from './relay.mjs'

/** Events between two disturbances. */
const EVENTS = 150
/** How long it may take until they are there, in seconds: only a hang takes so long. */
const PATIENCE = 120
const FIRST_SEQ = 1000

/** Hosts and a directory that speak until `stop`. */
class Network {
  hosts = []

  constructor(bin) {
    const args = ['run', '--hosts', '4', '--accounts', '6', '--rate', '40', '--duration', '30m']
    this.child = spawn(join(dirname(bin), 'zlay-sim'), args, {
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    this.ready = new Promise((resolve, reject) => {
      this.child.on('error', reject)
      this.child.on('exit', (code) => reject(new Error(`zlay-sim ended with ${code}`)))
      createInterface({ input: this.child.stdout }).on('line', (line) => {
        const [what, url] = line.split(/\s+/)
        if (what === 'plc') this.plcUrl = url
        if (what === 'host') this.hosts.push(new URL(url).host)
        if (this.hosts.length === 4) resolve()
      })
    })
    this.ready.catch(() => {})
  }

  stop() {
    this.child.kill('SIGKILL')
  }
}

/** One of the four programs; it may be started several times, with the same file for its cursor. */
class Example {
  /** What each of its processes has printed. */
  runs = []
  complaints = []

  constructor({ name, command, args, cwd }, relayUrl, folder) {
    Object.assign(this, { name, command, args, cwd, relayUrl })
    this.file = join(folder, `${name}.cursor`)
  }

  start() {
    const lines = []
    this.runs.push(lines)
    const child = spawn(this.command, [...this.args, this.relayUrl, this.file], {
      cwd: this.cwd,
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    this.child = child
    createInterface({ input: child.stdout }).on('line', (text) => {
      try {
        lines.push(JSON.parse(text))
      } catch {
        // The last line of a process that was killed.
      }
    })
    createInterface({ input: child.stderr }).on('line', (text) => this.complaints.push(text))
    this.ended = new Promise((resolve) => {
      child.on('error', (error) => resolve(error.message))
      child.on('close', (code, signal) => resolve(code ?? signal))
    })
  }

  get last() {
    return this.runs.flatMap((lines) => lines.slice(-1)).at(-1)?.seq ?? 0
  }

  async kill() {
    this.child.kill('SIGKILL')
    await this.ended
  }

  /** Waits until it has printed so many more events; false where it has not. */
  async more(events) {
    const goal = this.runs.at(-1).length + events
    for (let tries = 0; tries < PATIENCE * 10; tries++) {
      if (this.runs.at(-1).length >= goal) return true
      await sleep(100)
    }
    return false
  }

  /** What is wrong with the order of what it printed. */
  problems() {
    const problems = []
    let last = FIRST_SEQ - 1
    for (const lines of this.runs) {
      if (lines[0]?.seq > last + 1) problems.push(`${last} is followed by ${lines[0].seq}`)
      for (let i = 1; i < lines.length; i++) {
        const [before, after] = [lines[i - 1].seq, lines[i].seq]
        if (after !== before + 1) problems.push(`${before} is followed by ${after}`)
      }
      last = Math.max(last, lines.at(-1)?.seq ?? 0)
    }
    return problems
  }

  bySeq() {
    return new Map(this.runs.flat().map((line) => [line.seq, line]))
  }
}

/** Runs the examples that `installed.examples` says how to start. */
export async function runExamples({ installed, bin, basePort, folder, report, say }) {
  const work = join(folder, 'examples')
  mkdirSync(work)
  const network = new Network(bin)
  let relay
  let examples = []
  try {
    await network.ready
    relay = new Relay({
      bin,
      port: basePort + 3,
      metricsPort: basePort + 4,
      dataDir: join(work, 'data'),
      plcUrl: network.plcUrl,
      log: join(work, 'relay.log'),
      env: { RELAY_INITIAL_SEQ_NUMBER: String(FIRST_SEQ), RELAY_TRUSTED_DOMAINS: 'localhost' },
    })
    await relay.start()
    for (const host of network.hosts) await relay.requestCrawl(host)
    examples = installed.examples.map((how) => new Example(how, relay.ws, work))
    for (const example of examples) writeFileSync(example.file, '0')
    await disturb(report, examples, relay, say)
    compare(report, examples)
    await refused(report, installed, relay, work)
  } finally {
    for (const example of examples) example.child?.kill('SIGKILL')
    await relay?.end?.('SIGKILL', 2000)
    network.stop()
  }
}

async function disturb(report, examples, relay, say) {
  const all = async (what) => {
    const done = await Promise.all(examples.map((example) => example.more(EVENTS)))
    const stuck = examples.filter((_, i) => !done[i]).map((e) => `${e.name}: ${e.complaints.at(-1)}`)
    report.check(`examples ${what}`, stuck, examples.map((e) => `${e.name} ${e.last}`).join(', '))
    say(`examples ${what}`)
  }
  for (const example of examples) example.start()
  await all('read from the beginning')
  // Their cursors are saved once a second.
  await sleep(1500)
  await Promise.all(examples.map((example) => example.kill()))
  for (const example of examples) example.start()
  await all('go on after they were killed')
  await relay.end('SIGKILL')
  await relay.start()
  await all('go on after the relay was killed')
  await relay.end('SIGTERM')
  await relay.start()
  await all('go on after the relay was stopped')
  const told = examples.filter((e) => !e.complaints.some((text) => text.includes('1001')))
  report.check('examples are told that the relay stops', told.map((e) => e.name))
  await Promise.all(examples.map((example) => example.kill()))
}

function compare(report, examples) {
  for (const example of examples) {
    report.check(`example in ${example.name}: no gap`, example.problems(), `${example.last}`)
    const cursor = Number(readFileSync(example.file, 'utf8'))
    const good = cursor > example.last - 2000 && cursor <= example.last
    report.is(`example in ${example.name}: its cursor is one that it has seen`, good, `${cursor}`)
  }
  const [first, ...others] = examples.map((example) => example.bySeq())
  const problems = []
  let compared = 0
  for (const [seq, line] of first) {
    for (const [i, other] of others.entries()) {
      if (!other.has(seq)) continue
      compared++
      const text = JSON.stringify(other.get(seq))
      if (text !== JSON.stringify(line)) {
        problems.push(`${examples[i + 1].name}: ${text}, ${examples[0].name}: ${JSON.stringify(line)}`)
      }
    }
  }
  const kinds = new Set([...first.values()].map((line) => line.type))
  if (!kinds.has('#commit')) problems.push('no commit was seen')
  if (compared < 3 * EVENTS) problems.push(`only ${compared} events were compared`)
  report.check('examples understand every event alike', problems, `${compared} compared`)
}

/** A cursor of another relay ends them, with a word. */
async function refused(report, installed, relay, work) {
  for (const how of installed.examples) {
    const example = new Example(how, relay.ws, work)
    writeFileSync(example.file, String(10 ** 12))
    example.start()
    const code = await Promise.race([example.ended, sleep(PATIENCE * 1000)])
    const said = example.complaints.some((text) => text.includes('FutureCursor'))
    if (code === undefined) await example.kill()
    report.is(`example in ${how.name}: FutureCursor is fatal`, code === 1 && said, `${code}`)
  }
}
