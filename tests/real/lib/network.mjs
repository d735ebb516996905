// A small real network on loopback: a PLC directory and two PDSes, each a process of its own.
import { fork } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { join } from 'node:path'
import { HERE } from './install.mjs'

const PASSWORD = 'hunter2hunter2'
const ADMIN = 'admin-pass'

class Service {
  constructor(name, options, { node, cwd }) {
    this.name = name
    this.upgrades = []
    this.waiting = new Map()
    this.child = fork(join(HERE, 'lib/pds-process.cjs'), [JSON.stringify(options)], {
      execPath: node,
      cwd,
      stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
    })
    this.ready = new Promise((resolve, reject) => {
      this.child.on('exit', (code, signal) => {
        this.gone = new Error(`${name} ended with ${code ?? signal}`)
        reject(this.gone)
        for (const { reject } of this.waiting.values()) reject(this.gone)
      })
      this.child.on('message', (message) => {
        if (message.ready) resolve()
        if (message.upgrade) this.upgrades.push(message)
        this.waiting.get(message.answer)?.resolve(message.value)
        this.waiting.delete(message.answer)
      })
    })
  }

  ask(question) {
    const id = randomBytes(8).toString('hex')
    return new Promise((resolve, reject) => {
      if (this.gone) throw this.gone
      this.waiting.set(id, { resolve, reject })
      this.child.send({ ask: question, id })
    })
  }

  stop() {
    if (this.gone || !this.child.connected) return undefined
    const timer = setTimeout(() => this.child.kill('SIGKILL'), 8000)
    const ended = new Promise((resolve) => this.child.once('exit', resolve))
    this.child.send({ ask: 'stop' })
    return ended.then(() => clearTimeout(timer))
  }
}

export class Pds extends Service {
  constructor({ name, port, domain, crawlers, plcUrl, version }, place) {
    const rotationKeyHex = randomBytes(32).toString('hex')
    super(name, { port, plcUrl, domain, crawlers, rotationKeyHex, adminPassword: ADMIN }, place)
    Object.assign(this, { port, domain, rotationKeyHex, version })
    this.host = `localhost:${port}`
    this.url = `http://${this.host}`
    this.ws = `ws://${this.host}`
  }

  /** The seq of its newest event. */
  seq() {
    return this.ask('seq')
  }

  async call(nsid, { params, body, token, admin, type, method } = {}) {
    const url = new URL(`/xrpc/${nsid}`, this.url)
    for (const [name, value] of Object.entries(params ?? {})) url.searchParams.set(name, value)
    const headers = {}
    if (token) headers.authorization = `Bearer ${token}`
    if (admin) headers.authorization = `Basic ${Buffer.from(`admin:${ADMIN}`).toString('base64')}`
    const binary = body instanceof Uint8Array
    if (body !== undefined)
      headers['content-type'] = type ?? (binary ? 'application/octet-stream' : 'application/json')
    const response = await fetch(url, {
      method: method ?? (body === undefined ? 'GET' : 'POST'),
      headers,
      body: body === undefined || binary ? body : JSON.stringify(body),
    })
    if (!response.ok)
      throw new Error(`${this.name}: ${nsid}: ${response.status} ${await response.text()}`)
    const json = (response.headers.get('content-type') ?? '').includes('json')
    return json ? response.json() : new Uint8Array(await response.arrayBuffer())
  }

  async createAccount(name) {
    const handle = `${name}${this.domain}`
    const body = { handle, email: `${name}@example.test`, password: PASSWORD }
    const made = await this.call('com.atproto.server.createAccount', { body })
    return new Account({ name, handle, did: made.did, token: made.accessJwt, pds: this })
  }

  /** The receiving end of a migration: an account that exists elsewhere, not yet active here. */
  async createMovedAccount({ did, name }, serviceToken) {
    const handle = `${name}${this.domain}`
    const body = { did, handle, email: `${name}-moved@example.test`, password: PASSWORD }
    const made = await this.call('com.atproto.server.createAccount', { token: serviceToken, body })
    return new Account({ name, handle, did, token: made.accessJwt, pds: this })
  }

  takedown(did, applied) {
    const subject = { $type: 'com.atproto.admin.defs#repoRef', did }
    const body = { subject, takedown: { applied } }
    return this.call('com.atproto.admin.updateSubjectStatus', { admin: true, body })
  }

  deleteAccount(did) {
    return this.call('com.atproto.admin.deleteAccount', { admin: true, body: { did } })
  }
}

export class Account {
  constructor(fields) {
    Object.assign(this, fields)
  }

  call(nsid, options) {
    return this.pds.call(nsid, { token: this.token, ...options })
  }

  create(collection, record, rest = {}) {
    const body = { repo: this.did, collection, record: { $type: collection, ...record }, ...rest }
    return this.call('com.atproto.repo.createRecord', { body })
  }

  post(text, extra = {}) {
    return this.create('app.bsky.feed.post', { text, createdAt: now(), ...extra })
  }

  put(collection, rkey, record) {
    const body = { repo: this.did, collection, rkey, record: { $type: collection, ...record } }
    return this.call('com.atproto.repo.putRecord', { body })
  }

  delete(uri) {
    const [collection, rkey] = uri.split('/').slice(-2)
    const body = { repo: this.did, collection, rkey }
    return this.call('com.atproto.repo.deleteRecord', { body })
  }

  writes(writes) {
    const body = { repo: this.did, writes }
    return this.call('com.atproto.repo.applyWrites', { body })
  }

  uploadBlob(bytes, type) {
    return this.call('com.atproto.repo.uploadBlob', { type, body: bytes })
  }

  deactivate() {
    return this.call('com.atproto.server.deactivateAccount', { body: {} })
  }

  activate() {
    return this.call('com.atproto.server.activateAccount', { method: 'POST' })
  }
}

export const now = () => new Date().toISOString()

/** Where the directory of a network is. */
export const directoryUrl = (basePort) => `http://localhost:${basePort}`

/** Starts the directory and one PDS of each version. */
export async function startNetwork({ installed, basePort, crawler }) {
  const plc = new Service(
    'plc',
    { kind: 'plc', port: basePort },
    { node: installed.node20, cwd: installed.pds04 },
  )
  await plc.ready
  plc.url = directoryUrl(basePort)
  const common = { plcUrl: plc.url }
  const one = {
    ...common,
    name: 'pds1',
    version: '0.4.217',
    port: basePort + 1,
    domain: '.pds1.test',
    crawlers: [],
  }
  const two = {
    ...common,
    name: 'pds2',
    version: '0.5.35',
    port: basePort + 2,
    domain: '.pds2.test',
    crawlers: crawler ? [crawler] : [],
  }
  const pdses = [
    new Pds(one, { node: installed.node20, cwd: installed.pds04 }),
    new Pds(two, { node: installed.node24, cwd: installed.pds05 }),
  ]
  await Promise.all(pdses.map((pds) => pds.ready))
  return { plc, pdses, stop: () => Promise.all([...pdses, plc].map((service) => service.stop())) }
}
