// A subscriber of an AT Protocol relay: node subscribe.ts wss://relay.example.com cursor.txt
import { existsSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { fromUint8Array } from '@atcute/car'
import { decode, decodeFirst, fromBytes, toCidLink } from '@atcute/cbor'
import type { Bytes, CidLink } from '@atcute/cbor'
import WebSocket from 'ws'

const FRAME_BYTES_MAX = 5_000_000
const SAVE_EVERY_MS = 1_000
const BACKOFF_MS_MAX = 64_000
/** The relay pings after 30 seconds without a frame; longer than this, and the connection is dead. */
const SILENCE_MS_MAX = 90_000

type Op = { action: string; path: string; cid: CidLink | null }
type Commit = { seq: number; repo: string; ops: Op[]; blocks: Bytes }
type Account = { seq: number; did: string; active: boolean }
type Body = Record<string, unknown> & { seq: number }

const [relay, file] = process.argv.slice(2)
/** The seq of the last event that was dealt with; undefined: begin with what happens now. */
let cursor: number | undefined = existsSync(file) ? Number(readFileSync(file, 'utf8')) : undefined
let savedAt = 0

/** Whole or not at all: a half-written cursor would be another one. */
function save() {
  if (cursor !== undefined) {
    writeFileSync(`${file}.part`, String(cursor))
    renameSync(`${file}.part`, file)
  }
  savedAt = Date.now()
}

function fatal(why: string): never {
  console.error(`fatal: ${why}`)
  process.exit(1)
}

/** One connection, from its beginning to its end, which it tells. */
function connection(): Promise<string> {
  const url = new URL(`${relay}/xrpc/com.atproto.sync.subscribeRepos`)
  if (cursor !== undefined) url.searchParams.set('cursor', String(cursor))
  const socket = new WebSocket(url, { maxPayload: FRAME_BYTES_MAX, perMessageDeflate: false })
  return new Promise((resolve) => {
    let silence: NodeJS.Timeout
    const alive = () => {
      clearTimeout(silence)
      silence = setTimeout(() => socket.terminate(), SILENCE_MS_MAX)
    }
    alive()
    socket.on('open', alive)
    socket.on('ping', alive)
    socket.on('message', (data: Buffer) => {
      alive()
      frame(data)
    })
    // 400: the cursor is none. 429: too many subscriptions of this address. 502 to 504: the proxy
    // has no relay now.
    socket.on('unexpected-response', (_, { statusCode }) => {
      if (statusCode === 400) fatal('the relay refuses the cursor')
      socket.terminate()
      resolve(`status ${statusCode}`)
    })
    socket.on('error', (error) => console.error(error.message)) // 'close' follows
    socket.on('close', (code, reason) => {
      clearTimeout(silence)
      resolve(`${code} ${reason}`)
    })
  })
}

/** Two DAG-CBOR items: what it is, and what it says. */
function frame(bytes: Uint8Array) {
  const [header, rest] = decodeFirst(bytes) as [{ op: number; t?: string }, Uint8Array]
  const body = decode(rest) as Body
  if (header.op === -1) {
    // After ConsumerTooSlow the cursor is still good; after FutureCursor it is another relay's.
    if (body.error === 'FutureCursor') fatal(`${body.error}: ${body.message}`)
    console.error(`error: ${body.error}: ${body.message}`)
  } else if (header.t === '#info') {
    console.error(`info: ${body.name}: ${body.message}`) // OutdatedCursor: events are missing
  } else {
    try {
      event(header.t!, body)
    } catch (error) {
      // One event that this program does not understand must not stop it for ever.
      console.error(`${body.seq}: ${error}`)
    }
    cursor = body.seq
    if (Date.now() - savedAt > SAVE_EVERY_MS) save()
  }
}

function event(type: string, body: Body) {
  const line: Record<string, unknown> = { seq: body.seq, type, did: body.repo ?? body.did }
  if (type === '#commit') {
    const commit = body as unknown as Commit
    const blocks = new Map<string, Uint8Array>()
    for (const { cid, bytes } of fromUint8Array(fromBytes(commit.blocks))) {
      blocks.set(toCidLink(cid).$link, bytes)
    }
    line.ops = commit.ops.map(({ action, path, cid }) => {
      const record = cid && (decode(blocks.get(cid.$link)!) as { $type?: string })
      return [action, path, record?.$type ?? null]
    })
  } else if (type === '#account') {
    line.active = (body as unknown as Account).active
  }
  console.log(JSON.stringify(line))
}

process.on('SIGINT', () => {
  save()
  process.exit(0)
})
for (let backoff = 500; ; backoff = Math.min(backoff * 2, BACKOFF_MS_MAX)) {
  const before = cursor
  console.error(`closed: ${await connection()}`)
  if (cursor !== before) {
    backoff = 500
    save()
  }
  await sleep(backoff * (0.5 + Math.random() / 2))
}
