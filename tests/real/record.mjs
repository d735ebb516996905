// Records what the two PDSes send while people live on them, and the documents of the directory,
// into tests/recorded: what the tests of the main crate read as commits that nobody here made.
//
//   node record.mjs [--base-port 2592]
import { mkdirSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { didOf, loadFrames } from './lib/frames.mjs'
import { HERE, installPdses } from './lib/install.mjs'
import { startNetwork } from './lib/network.mjs'
import { Recorder } from './lib/recorder.mjs'
import * as scenario from './lib/scenario.mjs'

/** As few as show everything once: the files are part of the repository. */
const POSTS = 40
const INTO = join(dirname(HERE), 'recorded')

const { values: options } = parseArgs({
  options: { 'base-port': { type: 'string', default: '2592' } },
})

/** The stage of the scenario, without a relay: a step is over when both streams were read. */
class Recording {
  constructor(network, frames) {
    const WebSocket = frames.installed('ws')
    this.network = network
    this.streams = network.pdses.map((pds) => ({
      pds,
      recorder: new Recorder({ WebSocket, frames, url: pds.ws, cursor: 0 }),
    }))
    this.documents = new Map()
  }

  async settle(step) {
    for (const { pds, recorder } of this.streams) {
      const newest = await pds.seq()
      if (!(await recorder.until(() => recorder.lastSeq >= newest, 10_000)))
        throw new Error(`${step}: ${pds.name} did not send seq ${newest}`)
      for (const frame of recorder.frames) await this.look(didOf(frame))
    }
    for (const did of this.documents.keys()) await this.look(did, true)
  }

  /** Keeps the document of an account where it is new, or another than before. */
  async look(did, again = false) {
    if (this.documents.has(did) !== again) return
    const response = await fetch(`${this.network.plc.url}/${did}`)
    const text = await response.text()
    const known = this.documents.get(did) ?? []
    this.documents.set(did, known)
    if (response.ok && known.at(-1) !== text) known.push(text)
  }

  write({ pds, recorder }) {
    if (recorder.errors.length) throw new Error(recorder.errors.join(', '))
    const name = join(INTO, `pds-${pds.version.split('.').slice(0, 2).join('.')}`)
    const parts = recorder.frames.flatMap(({ bytes }) => [u32(bytes.length), bytes])
    writeFileSync(`${name}.frames`, Buffer.concat(parts))
    const dids = [...new Set(recorder.frames.map(didOf))]
    const documents = dids.map((did) => [did, this.documents.get(did).map((d) => JSON.parse(d))])
    const about = { pds: pds.version, host: pds.host, documents: Object.fromEntries(documents) }
    writeFileSync(`${name}.json`, `${JSON.stringify(about, null, 1)}\n`)
    console.log(`${name}: ${recorder.frames.length} frames of ${dids.length} accounts`)
  }
}

const u32 = (number) => {
  const bytes = Buffer.alloc(4)
  bytes.writeUInt32BE(number)
  return bytes
}

async function main() {
  const installed = installPdses()
  const network = await startNetwork({ installed, basePort: Number(options['base-port']) })
  const frames = loadFrames(installed.pds04)
  const recording = new Recording(network, frames)
  try {
    const [one, two] = network.pdses
    const directory = scenario.directoryClient(frames.installed, network.plc.url)
    const { alice, dave } = await scenario.life(recording, POSTS)
    await scenario.changes(recording)
    await scenario.migrate(recording, alice, two, directory, { blob: true })
    await scenario.migrate(recording, dave, one, directory, { lateRecord: true })
    await sleep(200) // for what nobody waits for
    await recording.settle('the end')
    mkdirSync(INTO, { recursive: true })
    for (const stream of recording.streams) recording.write(stream)
  } finally {
    for (const { recorder } of recording.streams) recorder.stop()
    await network.stop()
  }
}

await main()
process.exit(0)
