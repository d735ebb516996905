// The command line tool goat: `goat relay`, and `goat firehose` with all that it can verify.
import { execFile } from 'node:child_process'
import { dirname } from 'node:path'
import { Subscriber } from './subscriber.mjs'

const FLAGS = ['--verify-basic', '--verify-sig', '--verify-mst']
/** What it logs without there being anything wrong. All else that it logs is a complaint. */
const ROUTINE = [
  'starting firehose consumer',
  'shutting down parallel scheduler',
  'parallel scheduler shutdown complete',
]
const NOTHING_TO_INVERT = 'prevData is nil, skipping MST check'
const CONNECTION_ENDED = 'error: con err at read: '
const NOBODY_THERE = 'error: subscribing to firehose failed (dialing): '

/** It reads .env where it is, and the variables of the operator's relay. */
const alone = (installed) => ({ cwd: dirname(installed.goat), env: {} })

/** Runs `goat relay`: its exit code, the lines that it prints, and what it complains of. */
export function goatRelay(installed, url, args) {
  const all = ['relay', '--relay-host', url, ...args]
  const options = { ...alone(installed), timeout: 30_000 }
  return new Promise((resolve) => {
    execFile(installed.goat, all, options, (error, stdout, stderr) => {
      const code = error ? (error.code ?? error.signal) : 0
      resolve({ code, lines: stdout.split('\n').filter(Boolean), error: stderr.trim() })
    })
  })
}

/**
 * `goat firehose` prints events as JSON to stdout and logs what it finds wrong, as JSON, to stderr; it
 * ends, with an error, when its connection does.
 */
export class Goat extends Subscriber {
  constructor(installed, url) {
    super('goat firehose --verify-*', installed.goat, ['firehose', '--relay-host', url, ...FLAGS], {
      ...alone(installed),
      resumes: '--cursor',
    })
    this.notInverted = []
    this.cut = 0
  }

  hear(text) {
    const { type, payload } = JSON.parse(text)
    const { seq, repo, did = repo } = payload
    const event = { seq, type: `#${type}`, did }
    if (type === 'commit') event.ops = payload.ops?.length ?? 0
    this.events.push(event)
  }

  complain(text) {
    if (text.startsWith(CONNECTION_ENDED)) this.cut++
    else if (text.startsWith('{')) this.logged(JSON.parse(text))
    else if (!text.startsWith(NOBODY_THERE)) super.complain(text)
  }

  logged(entry) {
    if (entry.msg === NOTHING_TO_INVERT) this.notInverted.push(entry.seq)
    else if (!ROUTINE.includes(entry.msg)) super.complain(JSON.stringify(entry))
  }

  endedWell(code) {
    return code === 255
  }

  /**
   * It cannot invert the first commit of an account, for which `prevData` does not exist, and says
   * so: about each of them and about no other commit. Its connection ends when the relay is killed
   * (unless it is not back from the time before) and at no other time.
   */
  problems(frames, kills) {
    const problems = [...this.errors]
    const first = this.events
      .map(({ seq }) => frames.get(seq))
      .filter((frame) => frame?.t === '#commit' && frame.body.since === null)
      .map((frame) => frame.body.seq)
    if (String(first) !== String(this.notInverted)) {
      problems.push(`first commits: ${first}; not inverted: ${this.notInverted}`)
    }
    if (this.cut > kills) problems.push(`its connection ended ${this.cut} times, not ${kills}`)
    return problems
  }
}
