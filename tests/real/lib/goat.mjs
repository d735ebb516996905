// `goat firehose` with all that it can verify. It prints events as JSON to stdout and logs what it
// finds wrong, as JSON, to stderr; it ends, with an error, when its connection does.
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

export class Goat extends Subscriber {
  constructor(installed, url, plcUrl) {
    super('goat firehose --verify-*', installed.goat, ['firehose', '--relay-host', url, ...FLAGS], {
      cwd: dirname(installed.goat), // it reads .env where it is
      // Built to ask a host that does not exist, and so always through this proxy.
      env: { HTTP_PROXY: plcUrl },
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
