// `@skyware/firehose`. Its own reconnecting re-uses the dead socket, so a new client takes over.
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'

const [relay] = process.argv.slice(2)
const installed = createRequire(join(process.cwd(), 'package.json'))
const { Firehose } = await import(
  pathToFileURL(join(process.cwd(), 'node_modules/@skyware/firehose/dist/index.js'))
)
const ws = installed('ws')
const say = (line) => console.log(JSON.stringify(line))

function start(cursor) {
  const firehose = new Firehose({ relay, cursor, ws, autoReconnect: false })
  const event = (type, did) => (message) => {
    cursor = String(message.seq)
    const line = { seq: message.seq, type, did: message[did] }
    if (type === '#commit') line.ops = message.ops.length
    say(line)
  }
  firehose.on('open', () => say({ open: true }))
  firehose.on('commit', event('#commit', 'repo'))
  firehose.on('sync', event('#sync', 'did'))
  firehose.on('identity', event('#identity', 'did'))
  firehose.on('account', event('#account', 'did'))
  firehose.on('unknown', (message) => say({ error: `unknown: ${JSON.stringify(message)}` }))
  firehose.on('error', ({ error }) => say({ error: error.message }))
  firehose.on('websocketError', () => {}) // 'close' follows
  firehose.on('close', () => {
    say({ close: 'closed' })
    setTimeout(() => start(cursor), 300)
  })
  firehose.start()
}

start(undefined)
