// The relay against real components, all on loopback: two versions of the PDS, the PLC directory,
// and subscribers nobody here wrote. See README.md beside this file.
//
//   node run.mjs [--keep] [--install-only] [--base-port 2582] [--only life|operator|examples]
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import * as checks from './lib/checks.mjs'
import { checkClients } from './lib/clients.mjs'
import { loadFrames } from './lib/frames.mjs'
import { runExamples } from './lib/examples.mjs'
import { CARGO_TARGET, install, installExamples, installForOperator } from './lib/install.mjs'
import { directoryUrl, startNetwork } from './lib/network.mjs'
import { operate } from './lib/operator.mjs'
import { Relay } from './lib/relay.mjs'
import * as scenario from './lib/scenario.mjs'
import { Stage } from './lib/stage.mjs'
import { startSubscribers } from './lib/subscribers.mjs'
import { Tap } from './lib/tap.mjs'

const { values: options } = parseArgs({
  options: {
    keep: { type: 'boolean', default: false },
    'install-only': { type: 'boolean', default: false },
    'base-port': { type: 'string', default: '2582' },
    only: { type: 'string' },
  },
})
const started = Date.now()
const say = (text) => console.log(`# ${((Date.now() - started) / 1000).toFixed(1)} s  ${text}`)

async function main() {
  const acts = { life: liveAndDie, operator: operateRelay, examples: followExamples }
  const chosen = options.only ? [acts[options.only]] : Object.values(acts)
  if (chosen.includes(undefined)) throw new Error(`--only ${Object.keys(acts).join('|')}`)
  const basePort = Number(options['base-port'])
  const plcUrl = directoryUrl(basePort)
  const needed = {
    life: () => install(plcUrl),
    operator: () => installForOperator(plcUrl),
    examples: installExamples,
  }
  const installed = options.only
    ? needed[options.only]()
    : { ...install(plcUrl), ...installExamples() }
  if (options['install-only']) return true
  const folder = mkdtempSync(join(tmpdir(), 'zlay-real-'))
  say(`files in ${folder}`)
  const bin = process.env.ZLAY_BIN || join(CARGO_TARGET, 'debug/zlay')
  const frames = installed.pds04 && loadFrames(installed.pds04)
  const report = new checks.Report()
  for (const act of chosen) await act({ installed, frames, bin, basePort, folder, report })
  if (options.keep || report.failed) say(`kept: ${folder}`)
  else rmSync(folder, { recursive: true, force: true })
  say('the end')
  return report.summary()
}

/** What only some accounts have records of. */
const SIGNAL = 'app.bsky.graph.follow'

/** People write, accounts move, and the relay is killed. */
async function liveAndDie({ installed, frames, bin, basePort, folder, report }) {
  const crawler = `http://localhost:${basePort + 3}`
  const network = await startNetwork({ installed, basePort, crawler })
  say('directory and PDSes are up')
  const relay = new Relay({
    bin,
    port: basePort + 3,
    metricsPort: basePort + 4,
    dataDir: join(folder, 'data'),
    plcUrl: network.plc.url,
    log: join(folder, 'relay.log'),
  })
  const stage = new Stage({ installed, frames, network, relay, WebSocket: frames.installed('ws') })
  try {
    await play(stage, report, installed, folder)
  } catch (error) {
    report.check('the scenario ran to its end', [error.stack])
  } finally {
    stage.stopRecording()
    stage.tap?.stop()
    await relay.end?.('SIGKILL', 2000)
    await network.stop()
  }
}

/** The operator at work, on a relay and a network of his own. */
async function operateRelay({ installed, frames, bin, basePort, folder, report }) {
  const network = await startNetwork({ installed, basePort })
  say('directory and PDSes are up for the operator')
  try {
    await operate({ installed, frames, network, bin, port: basePort + 3, folder, report, say })
  } catch (error) {
    report.check('the operator came to the end', [error.stack])
  } finally {
    await network.stop()
  }
}

/** The programs of docs/examples, which others begin with. */
async function followExamples({ installed, bin, basePort, folder, report }) {
  try {
    await runExamples({ installed, bin, basePort, folder, report, say })
  } catch (error) {
    report.check('the examples came to the end', [error.stack])
  }
}

async function play(stage, report, installed, folder) {
  const { relay, network } = stage
  const [one, two] = network.pdses
  const directory = scenario.directoryClient(stage.frames.installed, network.plc.url)
  await relay.start()
  await stage.record()
  await scenario.meet(stage, () => startSubscribers(installed, relay.ws, network.plc.url))
  say('the relay and its subscribers are connected')
  const { alice, bob, dave, erin } = await scenario.life(stage)
  say('life')
  await scenario.changes(stage)
  say('changes')
  const alice2 = await scenario.migrate(stage, alice, two, directory, { blob: true })
  const dave2 = await scenario.migrate(stage, dave, one, directory, { lateRecord: true })
  say('migrations')
  await checks.checkCounters(report, stage)
  await startTap(report, stage, folder)
  say('tap has copied')
  const seen = await scenario.killed(stage, [bob, dave2, erin, alice2], 3)
  say('killed')

  checks.checkStream(report, stage)
  checks.checkScenario(report, stage, seen)
  checks.checkSubscribers(report, stage, seen)
  await checks.checkOracle(report, stage, {
    oracle: installed.oracle,
    keysOf: directory.keys,
    folder,
  })
  await checks.checkReplay(report, stage, 'after kills')
  await checks.checkCursors(report, stage)
  const truth = await checkClients(report, stage)
  say('clients')
  await checkTap(report, stage, truth)
  await checkSignal(report, stage, truth, folder)
  say('tap')
  await shutdown(stage, report)
}

/** A copier of all repositories, which comes when there is much to copy already. */
async function startTap(report, stage, folder) {
  const mode = { TAP_FULL_NETWORK: 'true' }
  stage.tap = new Tap({ stage, port: stage.relay.port + 4, folder, name: 'tap', mode })
  await stage.tap.open()
  const { body } = await stage.relay.sync('listRepos')
  const dids = body.repos.filter(({ active }) => active).map(({ did }) => did)
  report.is('tap copies every repository', await stage.tap.copied(dids), `${dids.length} accounts`)
}

/** It has followed the stream since, through every kill of the relay. */
async function checkTap(report, { tap }, { accounts }) {
  const active = accounts.filter((account) => account.active)
  const { problems, seen } = await tap.differences(active)
  const { historical, live } = tap.counts
  if (!historical || !live) problems.push('it did not both copy and follow')
  const counts = `${historical} events copied, ${live} live`
  report.check(
    'tap (full network): its copy is what the PDSes have',
    problems,
    `${seen}, ${counts}`,
  )
  tap.stop()
}

/** A copier of those who have records of one collection, and of these records. */
async function checkSignal(report, stage, { accounts }, folder) {
  const mode = { TAP_SIGNAL_COLLECTION: SIGNAL, TAP_COLLECTION_FILTERS: SIGNAL }
  stage.tap = new Tap({ stage, port: stage.relay.port + 5, folder, name: 'tap-signal', mode })
  await stage.tap.open()
  const there = accounts.filter(({ collections }) => collections?.includes(SIGNAL))
  const { problems, seen } = await stage.tap.differences(there, [SIGNAL])
  const known = await stage.tap.repoCount()
  if (known !== there.length) problems.push(`it knows ${known} accounts, not ${there.length}`)
  report.check('tap (signal collection): its copy is what the PDSes have', problems, seen)
  stage.tap.stop()
}

/** A polite end: subscribers are told to come back, and nothing is lost. */
async function shutdown(stage, report) {
  const { relay, output } = stage
  const connections = output.closes.length
  const end = await relay.end('SIGTERM')
  report.is('SIGTERM ends the relay with exit code 0', end?.code === 0, JSON.stringify(end))
  await new Promise((done) => setTimeout(done, 50))
  const close = output.closes[connections]
  report.is('and subscribers get close code 1001', close?.code === 1001, JSON.stringify(close))
  await relay.start()
  await checks.checkReplay(report, stage, 'after a restart')
}

const good = await main().catch((error) => {
  console.error(error)
  console.log('0 passed, 1 failed')
  return false
})
process.exit(good ? 0 : 1)
