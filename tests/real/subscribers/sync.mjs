// `@atproto/sync`, the TypeScript library, with authentication on: it checks every op of a commit
// against the account's key. Which of its versions depends on the folder that it is run in.
import { createRequire } from 'node:module'
import { join } from 'node:path'

const [relay, plcUrl] = process.argv.slice(2)
const installed = createRequire(join(process.cwd(), 'package.json'))
const { Firehose } = installed('@atproto/sync')
const { IdResolver, MemoryCache } = installed('@atproto/identity')
const say = (line) => console.log(JSON.stringify(line))

// Handles one event after the other, so that lines come in the order of the stream.
class InOrder {
  cursor = undefined
  last = Promise.resolve()

  getCursor() {
    return this.cursor
  }

  trackEvent(did, seq, handler) {
    this.last = this.last.then(async () => {
      this.line = { seq, did, ops: 0 }
      await handler()
      this.cursor = seq
      say(this.line)
    })
    return this.last
  }
}

const runner = new InOrder()
const firehose = new Firehose({
  service: relay,
  runner,
  // 0.4 refuses a directory without TLS unless it is given a fetch of its own.
  idResolver: new IdResolver({ plcUrl, didCache: new MemoryCache(), fetch: globalThis.fetch }),
  unauthenticatedHandles: true, // handles under .test do not resolve
  subscriptionReconnectDelay: 200,
  maxReconnectSeconds: 1,
  handleEvent: (event) => {
    const isOp = ['create', 'update', 'delete'].includes(event.event)
    runner.line.type = isOp ? '#commit' : `#${event.event}`
    if (isOp) runner.line.ops++
  },
  onError: (error) => say({ error: `${error.message}: ${error.cause?.message ?? error.cause}` }),
})
firehose.start()
