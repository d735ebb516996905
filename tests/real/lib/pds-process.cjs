'use strict'
// One real PDS (or the PLC directory) in a process of its own, because the two versions of the PDS
// need different versions of Node. Started by network.mjs with its packages as working directory.
process.env.LOG_ENABLED ??= 'false'
const fs = require('node:fs')
const os = require('node:os')
const path = require('node:path')
const { createRequire } = require('node:module')
const installed = createRequire(path.join(process.cwd(), 'package.json'))

async function startPlc({ port }) {
  const plc = installed('@did-plc/server')
  const server = plc.PlcServer.create({ db: plc.Database.mock(), port })
  await server.start()
  return { stop: () => server.destroy() }
}

// better-sqlite3 12 on Node 24 aborts the process when a statement is collected between two
// microtasks (RemoveEnvironmentCleanupHook without a context). None is collected while we hold it.
function keepStatements() {
  const Database = installed('better-sqlite3')
  const { cppdb } = installed('better-sqlite3/lib/util')
  const probe = new Database(':memory:')
  const native = Object.getPrototypeOf(probe[cppdb])
  const { prepare } = native
  const kept = [probe]
  native.prepare = function (...args) {
    const statement = prepare.apply(this, args)
    kept.push(this, statement)
    return statement
  }
  probe.prepare('SELECT 1')
  if (kept.length !== 3)
    throw new Error('better-sqlite3 prepares its statements in another way now')
}

async function startPds({ port, plcUrl, domain, crawlers, rotationKeyHex, adminPassword }) {
  keepStatements()
  const { PDS, envToCfg, envToSecrets } = installed('@atproto/pds')
  const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'zlay-real-pds-'))
  const env = {
    devMode: true,
    port,
    dataDirectory: dir,
    blobstoreDiskLocation: path.join(dir, 'blobs'),
    // The only hostname that gives a plain http endpoint.
    hostname: 'localhost',
    adminPassword,
    jwtSecret: 'jwt-secret',
    didPlcUrl: plcUrl,
    serviceHandleDomains: [domain],
    inviteRequired: false,
    disableSsrfProtection: true,
    plcRotationKeyK256PrivateKeyHex: rotationKeyHex,
    rateLimitsEnabled: false,
    crawlers,
    modServiceUrl: 'http://mod.invalid',
    modServiceDid: 'did:example:invalid',
  }
  const pds = await PDS.create(envToCfg(env), envToSecrets(env))
  // The PDS announces its hostname without the port, as it would on the internet.
  pds.ctx.crawlers.hostname = `localhost:${port}`
  const server = await pds.start()
  server.on('upgrade', (request) =>
    process.send({ upgrade: request.url, agent: request.headers['user-agent'] }),
  )
  return {
    seq: async () => (await pds.ctx.sequencer.curr()) ?? 0,
    stop: async () => {
      await pds.destroy()
      fs.rmSync(dir, { recursive: true, force: true })
    },
  }
}

async function main() {
  const options = JSON.parse(process.argv[2])
  const service = await (options.kind === 'plc' ? startPlc(options) : startPds(options))
  let stopping = false
  const stop = async () => {
    if (stopping) return
    stopping = true
    await Promise.race([service.stop(), new Promise((done) => setTimeout(done, 5000))]).catch(
      () => {},
    )
    process.exit(0)
  }
  process.on('message', async (message) => {
    if (message.ask === 'seq') process.send({ answer: message.id, value: await service.seq() })
    if (message.ask === 'stop') await stop()
  })
  process.on('disconnect', stop)
  process.on('SIGINT', () => {}) // the parent decides
  process.send({ ready: true })
}

main().catch((error) => {
  console.error(error)
  process.exit(1)
})
