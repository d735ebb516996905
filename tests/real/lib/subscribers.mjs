// Runs the subscribers and collects what they say: one JSON line an event, `{"error": ...}` for
// whatever they did not accept.
import { spawn } from 'node:child_process'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { HERE } from './install.mjs'

const program = (name) => join(HERE, 'subscribers', name)

/** All of them, for a relay at `url` and a directory at `plcUrl`. */
export function startSubscribers(installed, url, plcUrl) {
  const { node20, node24, pds04, pds05, python, indigo } = installed
  return [
    new Subscriber('@atproto/sync 0.1.40', node20, [program('sync.mjs'), url, plcUrl], {
      cwd: pds04,
    }),
    new Subscriber('@atproto/sync 0.4.11', node24, [program('sync.mjs'), url, plcUrl], {
      cwd: pds05,
    }),
    new Subscriber('@skyware/firehose 0.5.2', node20, [program('skyware.mjs'), url], {
      cwd: pds04,
    }),
    new Subscriber('atproto (Python) 0.0.73', python, [program('python.py'), url]),
    new Subscriber('indigo (Go)', indigo, ['-relay', url, '-plc', plcUrl], { resumes: true }),
  ]
}

class Subscriber {
  /** `resumes`: it ends with its connection, and is started again with `-cursor`. */
  constructor(name, command, args, { cwd, resumes = false } = {}) {
    Object.assign(this, { name, command, args, cwd, resumes })
    this.events = []
    this.errors = []
    this.stopped = false
    this.start()
  }

  get lastSeq() {
    return this.events.at(-1)?.seq ?? 0
  }

  start() {
    const cursor = this.resumes && this.lastSeq ? ['-cursor', String(this.lastSeq)] : []
    this.child = spawn(this.command, [...this.args, ...cursor], {
      cwd: this.cwd,
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    createInterface({ input: this.child.stdout }).on('line', (text) => this.hear(text))
    createInterface({ input: this.child.stderr }).on('line', (text) =>
      this.errors.push(`stderr: ${text}`),
    )
    this.child.on('error', (error) => this.errors.push(error.message))
    this.child.on('exit', (code, signal) => this.ended(code, signal))
  }

  hear(text) {
    const line = JSON.parse(text)
    if (line.error) this.errors.push(line.seq ? `${line.seq}: ${line.error}` : line.error)
    if (line.seq) this.events.push(line)
  }

  ended(code, signal) {
    if (this.stopped) return
    if (this.resumes && code === 0) setTimeout(() => this.stopped || this.start(), 300)
    else this.errors.push(`ended with ${code ?? signal}`)
  }

  stop() {
    this.stopped = true
    this.child.kill('SIGKILL')
  }
}
