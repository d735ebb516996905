// Runs a subscriber and collects what it says: one JSON line an event, `{"error": ...}` for whatever
// it did not accept.
import { spawn } from 'node:child_process'
import { createInterface } from 'node:readline'

export class Subscriber {
  /**
   * `env`: its whole environment, if not ours. `resumes`: it ends with its connection, and is started
   * again with its last seq as the value of this flag.
   */
  constructor(name, command, args, { cwd, env, resumes } = {}) {
    Object.assign(this, { name, command, args, cwd, env, resumes })
    this.events = []
    this.errors = []
    this.stopped = false
    this.start()
  }

  get lastSeq() {
    return this.events.at(-1)?.seq ?? 0
  }

  start() {
    const cursor = this.resumes && this.lastSeq ? [this.resumes, String(this.lastSeq)] : []
    this.child = spawn(this.command, [...this.args, ...cursor], {
      cwd: this.cwd,
      env: this.env,
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    createInterface({ input: this.child.stdout }).on('line', (text) => this.hear(text))
    createInterface({ input: this.child.stderr }).on('line', (text) => this.complain(text))
    this.child.on('error', (error) => this.errors.push(error.message))
    // Not before all that it said was heard.
    this.child.on('close', (code, signal) => this.ended(code, signal))
  }

  hear(text) {
    const line = JSON.parse(text)
    if (line.error) this.errors.push(line.seq ? `${line.seq}: ${line.error}` : line.error)
    if (line.seq) this.events.push(line)
  }

  /** A line on stderr. */
  complain(text) {
    this.errors.push(`stderr: ${text}`)
  }

  ended(code, signal) {
    if (this.stopped) return
    if (this.resumes && this.endedWell(code)) setTimeout(() => this.stopped || this.start(), 300)
    else this.errors.push(`ended with ${code ?? signal}`)
  }

  /** Whether this exit code is that of a lost connection. */
  endedWell(code) {
    return code === 0
  }

  /** What was wrong, given the frames by seq and how often the relay was killed. */
  problems() {
    return this.errors
  }

  stop() {
    this.stopped = true
    this.child.kill('SIGKILL')
  }
}
