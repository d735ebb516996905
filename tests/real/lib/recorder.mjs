// A plain subscriber that keeps every frame of one stream, and comes back after its last seq when
// the connection ends.
import { EventEmitter } from 'node:events'

/** How recorders name themselves. */
export const AGENT = 'zlay-test-recorder'

export class Recorder extends EventEmitter {
  /** @param {string} url ws://host:port; @param cursor where to start, undefined for live */
  constructor({ WebSocket, frames, url, cursor }) {
    super()
    Object.assign(this, { WebSocket, decoder: frames, url, cursor })
    this.frames = []
    this.closes = []
    this.errors = []
    this.stopped = false
    this.opened = new Promise((resolve) => this.once('open', resolve))
    this.connect()
  }

  get lastSeq() {
    return this.frames.at(-1)?.body.seq ?? 0
  }

  connect() {
    const cursor = this.frames.length ? this.lastSeq : this.cursor
    const query = cursor === undefined ? '' : `?cursor=${cursor}`
    this.ws = new this.WebSocket(`${this.url}/xrpc/com.atproto.sync.subscribeRepos${query}`, {
      headers: { 'user-agent': AGENT },
    })
    this.ws.on('open', () => this.emit('open'))
    this.ws.on('message', (data, isBinary) => this.receive(data, isBinary))
    this.ws.on('error', () => {}) // 'close' follows
    this.ws.on('close', (code, reason) => {
      this.closes.push({ code, reason: String(reason) })
      if (!this.stopped) setTimeout(() => this.stopped || this.connect(), 100)
    })
  }

  receive(data, isBinary) {
    try {
      if (!isBinary) throw new Error('a text message')
      const frame = this.decoder.decode(data)
      if (frame.op !== 1 || !Number.isInteger(frame.body.seq)) {
        throw new Error(`not an event: ${JSON.stringify(frame.body)}`)
      }
      this.frames.push(frame)
      this.emit('frame', frame)
    } catch (error) {
      this.errors.push(error.message)
    }
  }

  /** Waits until `done()` holds, looked at after every frame; false after `ms` without it. */
  until(done, ms) {
    if (done()) return Promise.resolve(true)
    return new Promise((resolve) => {
      const look = () => done() && finish(true)
      const finish = (result) => {
        clearTimeout(timer)
        this.off('frame', look)
        resolve(result)
      }
      const timer = setTimeout(() => finish(done()), ms)
      this.on('frame', look)
    })
  }

  stop() {
    this.stopped = true
    this.ws.terminate()
  }
}

/** One connection: its frames (decoded), close code and reason, or the HTTP status of a refusal. */
export function connectOnce({ WebSocket, frames, url, cursor, until, ms = 5000 }) {
  return new Promise((resolve) => {
    const got = { frames: [] }
    const query = cursor === undefined ? '' : `?cursor=${encodeURIComponent(cursor)}`
    const ws = new WebSocket(`${url}/xrpc/com.atproto.sync.subscribeRepos${query}`)
    const timer = setTimeout(() => ws.terminate(), ms)
    const finish = () => {
      clearTimeout(timer)
      resolve(got)
    }
    ws.on('message', (data) => {
      got.frames.push(frames.decode(data))
      if (until?.(got.frames)) ws.terminate()
    })
    ws.on('unexpected-response', (_, response) => {
      got.status = response.statusCode
      let body = ''
      response.on('data', (part) => (body += part))
      response.on('end', () => {
        got.body = body
        finish()
      })
    })
    ws.on('error', (error) => (got.error = error.message))
    ws.on('close', (code, reason) => {
      if (got.status) return
      Object.assign(got, { code, reason: String(reason) })
      finish()
    })
  })
}
