// Everything that runs during a test: the network, the relay, the recorders, the subscribers; and
// `settle`, the moment between two steps of the scenario at which all of them have seen everything.
import { setTimeout as sleep } from 'node:timers/promises'
import { didOf } from './frames.mjs'
import { Matcher, Model } from './model.mjs'
import { Recorder } from './recorder.mjs'

export class Stage {
  constructor({ installed, frames, network, relay, WebSocket }) {
    Object.assign(this, { installed, frames, network, relay, WebSocket })
    this.model = new Model(frames)
    this.matcher = new Matcher(frames)
    this.subscribers = []
    this.late = []
    this.taken = 0
    this.upstream = network.pdses.map((pds) => ({
      pds,
      recorder: new Recorder({ WebSocket, frames, url: pds.ws, cursor: 0 }),
      judged: 0,
      firstSeq: 0,
    }))
  }

  /** Starts to record the relay, live. */
  record() {
    this.output = new Recorder({
      WebSocket: this.WebSocket,
      frames: this.frames,
      url: this.relay.ws,
    })
    return this.output.opened
  }

  /** The directory's entry: host, key and handle; null where there is none. */
  async directory(did) {
    const response = await fetch(`${this.network.plc.url}/${did}/data`)
    if (!response.ok) return null
    const data = await response.json()
    const endpoint = data.services?.atproto_pds?.endpoint
    return {
      host: endpoint ? new URL(endpoint).host : undefined,
      key: data.verificationMethods.atproto,
      handle: data.alsoKnownAs[0]?.replace('at://', ''),
    }
  }

  /** Waits until the relay and the subscribers have caught up; what did not goes into `late`. */
  async settle(step) {
    for (const upstream of this.upstream) await this.judge(upstream, step)
    const patience = this.late.length ? 3000 : 20_000
    const done = () => {
      this.take()
      return this.matcher.missing().length === this.matcher.lost.length
    }
    if (!(await this.output.until(done, patience))) {
      this.late.push(`${step}: ${this.matcher.missing().length} events not forwarded`)
    }
    await sleep(150) // for what must not come
    this.take()
    await this.catchUp(step)
  }

  // Frames within one step do not depend on the order between the hosts: steps are made so.
  async judge(upstream, step) {
    const { pds, recorder } = upstream
    const newest = await pds.seq()
    if (!(await recorder.until(() => recorder.lastSeq >= newest, 10_000))) {
      this.late.push(`${step}: ${pds.name} did not send seq ${newest}`)
    }
    const entries = new Map()
    for (; upstream.judged < recorder.frames.length; upstream.judged++) {
      const frame = recorder.frames[upstream.judged]
      const did = didOf(frame)
      if (!entries.has(did)) entries.set(did, await this.directory(did))
      let judged = await this.model.judge(frame, pds, entries.get(did))
      if (frame.body.seq <= upstream.firstSeq) {
        judged = {
          ...judged,
          kind: 'may',
          why: 'from before the relay was connected',
          omits: [[], ['handle']],
        }
      }
      this.matcher.expect(frame, pds.name, judged)
    }
  }

  take() {
    while (this.taken < this.output.frames.length)
      this.matcher.take(this.output.frames[this.taken++])
  }

  async catchUp(step) {
    const deadline = Date.now() + (this.late.length ? 3000 : 15_000)
    const behind = () => this.subscribers.filter((s) => s.lastSeq < this.output.lastSeq)
    while (behind().length && Date.now() < deadline) await sleep(50)
    for (const { name, lastSeq } of behind()) {
      this.late.push(`${step}: ${name} is at ${lastSeq} of ${this.output.lastSeq}`)
    }
  }

  stopRecording() {
    this.output?.stop()
    for (const subscriber of this.subscribers) subscriber.stop()
    for (const { recorder } of this.upstream) recorder.stop()
  }
}
