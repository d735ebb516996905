// The relay under test, as a child process, known only by its command line, its environment and
// its ports.
import { spawn } from 'node:child_process'
import { createWriteStream } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'

export class Relay {
  /** `env`: further variables of its environment. */
  constructor({ bin, port, metricsPort, dataDir, plcUrl, log, env }) {
    Object.assign(this, { bin, port, dataDir })
    this.http = `http://localhost:${port}`
    this.ws = `ws://localhost:${port}`
    this.metrics = `http://localhost:${metricsPort}`
    this.log = createWriteStream(log)
    this.env = {
      ...withoutRelayVariables(process.env),
      RELAY_PORT: String(port),
      RELAY_METRICS_PORT: String(metricsPort),
      RELAY_DATA_DIR: dataDir,
      RELAY_UPSTREAM: 'none',
      RELAY_ALLOW_PRIVATE_HOSTS: 'true',
      RELAY_PLC_URL: plcUrl,
      RUST_LOG: 'info',
      ...env,
    }
  }

  /** Starts it and waits until it is healthy. */
  async start(seconds = 30) {
    this.child = spawn(this.bin, [], { env: this.env, stdio: ['ignore', 'pipe', 'pipe'] })
    this.child.stdout.pipe(this.log, { end: false })
    this.child.stderr.pipe(this.log, { end: false })
    this.exited = new Promise((resolve) => {
      this.child.on('error', (error) => resolve({ error: error.message }))
      this.child.on('exit', (code, signal) => resolve({ code, signal }))
    })
    let gone
    this.exited.then((how) => (gone = how))
    for (let tries = 0; tries < seconds * 10; tries++) {
      if (gone) throw new Error(`the relay ended at once: ${JSON.stringify(gone)}`)
      const healthy = await fetch(`${this.http}/_health`).then(
        (r) => r.ok,
        () => false,
      )
      if (healthy) return
      await sleep(100)
    }
    throw new Error(`the relay is not healthy after ${seconds} s`)
  }

  /** Sends a signal and waits for the end: `{code, signal}`, or undefined after `ms`. */
  async end(signal, ms = 20_000) {
    this.child.kill(signal)
    return Promise.race([this.exited, sleep(ms)])
  }

  /** Asks it to crawl a host, as anybody may. */
  async requestCrawl(hostname) {
    const response = await fetch(`${this.http}/xrpc/com.atproto.sync.requestCrawl`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ hostname }),
    })
    if (!response.ok) throw new Error(`requestCrawl: ${response.status} ${await response.text()}`)
  }

  /** Asks what anybody may ask: `{status, body}`. A body that is not JSON is undefined. */
  async get(path, params = {}) {
    const response = await fetch(`${this.http}${path}?${new URLSearchParams(params)}`)
    const text = await response.text()
    const json = (response.headers.get('content-type') ?? '').includes('json')
    return { status: response.status, body: json ? JSON.parse(text) : undefined }
  }

  /** One of the queries `com.atproto.sync.…`. */
  sync(name, params) {
    return this.get(`/xrpc/com.atproto.sync.${name}`, params)
  }
}

function withoutRelayVariables(env) {
  return Object.fromEntries(
    Object.entries(env).filter(([name]) => !name.startsWith('RELAY_') && name !== 'DATABASE_URL'),
  )
}
