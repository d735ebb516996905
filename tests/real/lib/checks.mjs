// The checks: each one line, `ok` or `FAIL`, with what was seen.
import { spawnSync } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { didOf } from './frames.mjs'
import { connectOnce } from './recorder.mjs'

export class Report {
  passed = 0
  failed = 0

  /** `problems`: what is wrong; none means that it holds. `seen`: what was looked at. */
  check(name, problems, seen = '') {
    const ok = problems.length === 0
    ok ? this.passed++ : this.failed++
    console.log(`${ok ? 'ok  ' : 'FAIL'} ${name}${seen ? `: ${seen}` : ''}`)
    for (const problem of problems.slice(0, 8)) console.log(`       ${problem}`)
    if (problems.length > 8) console.log(`       and ${problems.length - 8} more`)
  }

  is(name, condition, seen) {
    this.check(name, condition ? [] : ['is not so'], seen)
  }

  summary() {
    console.log(`${this.passed} passed, ${this.failed} failed`)
    return this.failed === 0
  }
}

/** Every event in its place: the relay's stream against the model of the PDSes' streams. */
export function checkStream(report, stage) {
  const { matcher, output, upstream, late } = stage
  const { counts, dropped } = matcher
  const sent = upstream.map(
    (u) => `${u.pds.name} (${u.pds.version}) sent ${u.recorder.frames.length}`,
  )
  report.check('every step was followed in time', late, sent.join(', '))
  report.check('recorders read only events', [
    ...output.errors,
    ...upstream.flatMap((u) => u.recorder.errors),
  ])
  const kinds = kindsOf(output.frames)
  report.check('every event that must be forwarded is, exactly once', matcher.missing(), kinds)
  report.check(
    'nothing else is forwarded, and all is byte for byte the upstream event but for seq',
    matcher.wrong,
    `${counts.forwarded} events, with ${counts.repeatsForwarded} of ${counts.may} optional ones`,
  )
  for (const [why, number] of dropped) console.log(`       not forwarded: ${number} x ${why}`)
  report.check('seq has no gap and no repetition', gaps(output.frames), range(output.frames))
}

function kindsOf(frames) {
  const kinds = new Map()
  for (const { t } of frames) kinds.set(t, (kinds.get(t) ?? 0) + 1)
  return [...kinds].map(([t, n]) => `${n} ${t}`).join(', ')
}

const range = (events) => `seq ${seqOf(events[0])} to ${seqOf(events.at(-1))}`
const seqOf = (event) => event?.body?.seq ?? event?.seq

function gaps(events) {
  const problems = []
  for (let i = 1; i < events.length; i++) {
    if (seqOf(events[i]) !== seqOf(events[i - 1]) + 1) {
      problems.push(`${seqOf(events[i])} after ${seqOf(events[i - 1])}`)
    }
  }
  return problems
}

/** The reason in the relay's metrics for each of the model's. */
const REASONS = {
  'the directory names another host': 'wrong_host',
  '#sync whose rev is not that of its commit': 'commit_mismatch',
  'a #sync that says what the last commit said': 'rev_stale',
}

/** What the relay dropped so far is counted under the right reason. */
export async function checkCounters(report, stage) {
  const text = await (await fetch(`${stage.relay.metrics}/metrics`)).text()
  const counted = new Map()
  for (const [, reason, n] of text.matchAll(
    /^relay_events_rejected_total\{reason="(\w+)"\} (\d+)/gm,
  )) {
    if (Number(n)) counted.set(reason, Number(n))
  }
  const problems = []
  for (const [why, number] of stage.matcher.dropped) {
    const reason = REASONS[why]
    // Events from before the first contact may have been seen and dropped too.
    const right = (counted.get(reason) ?? 0) - number
    if (right < 0 || right > stage.matcher.counts.may) {
      problems.push(`${number} x ${why}: ${reason} is ${counted.get(reason)}`)
    }
  }
  for (const reason of counted.keys()) {
    if (!Object.values(REASONS).includes(reason)) problems.push(`${reason} was not expected`)
  }
  const seen = [...counted].map(([reason, n]) => `${n} ${reason}`).join(', ')
  report.check('what is not forwarded is counted by its reason', problems, seen)
}

/** The rules that the scenario was written to touch were in fact touched. */
export function checkScenario(report, stage, seen) {
  const { dropped } = stage.matcher
  const wanted = [
    'a #sync that says what the last commit said',
    '#sync whose rev is not that of its commit',
    'the directory names another host',
  ]
  report.check(
    'the scenario met the events that must not be forwarded',
    wanted.filter((why) => !dropped.has(why)),
    `${[...dropped.values()].reduce((a, b) => a + b, 0)} events`,
  )
  const broken = brokenChains(stage.output.frames)
  report.is(
    'a commit that does not continue the one before, correct in itself, passes',
    broken.length === 1,
    broken.join(', '),
  )
  const { ends, written, reconnects } = seen
  const killed = ends.filter((end) => end?.signal === 'SIGKILL').length
  report.check(
    'the relay was killed while people wrote',
    written.posts > 20 && killed === ends.length && !written.errors
      ? []
      : [JSON.stringify({ written, ends })],
    `${killed} times, ${written.posts} posts`,
  )
  const cursors = reconnects.map((list) =>
    list.map((u) => new URL(u.upgrade, 'http://h').searchParams.get('cursor')),
  )
  report.check(
    'after each kill it comes back to each host with its cursor',
    cursors.flatMap((list, i) =>
      list.length >= ends.length && list.every((cursor) => Number(cursor) > 0)
        ? []
        : [`host ${i + 1}: ${JSON.stringify(list)}`],
    ),
    cursors.map((list) => list.join(' ')).join(' / '),
  )
}

// One account wrote at its old host after the export: its next commit does not know of that.
function brokenChains(frames) {
  const revs = new Map()
  const broken = []
  for (const { t, body } of frames) {
    if (t !== '#commit') continue
    const last = revs.get(body.repo)
    if (last && body.since !== last)
      broken.push(`seq ${body.seq}: since ${body.since}, not ${last}`)
    revs.set(body.repo, body.rev)
  }
  return broken
}

/** Each subscriber saw what the recorder saw, from the moment it was there. */
export function checkSubscribers(report, stage, { ends }) {
  const bySeq = new Map(stage.output.frames.map((frame) => [frame.body.seq, frame]))
  for (const subscriber of stage.subscribers) {
    const { name, events } = subscriber
    const problems = [...subscriber.problems(bySeq, ends.length), ...gaps(events)]
    for (const event of events) {
      const frame = bySeq.get(event.seq)
      if (!frame) problems.push(`${event.seq}: was never sent`)
      else if (differs(event, frame))
        problems.push(`${event.seq}: ${JSON.stringify(event)}, sent ${frame.t}`)
    }
    if (seqOf(events.at(-1)) !== stage.output.lastSeq) problems.push('did not see the end')
    const ops = events.reduce((sum, event) => sum + (event.ops ?? 0), 0)
    const seen = `${events.length} events, ${ops} ops, ${range(events)}`
    report.check(`${name}: every event once, in order, without error`, problems, seen)
  }
}

// A commit without ops gives @atproto/sync nothing to hand on, so it has no type there.
function differs(event, frame) {
  const ops = frame.t === '#commit' ? frame.body.ops.length : 0
  if (event.did !== didOf(frame) || (event.ops ?? 0) !== ops) return true
  return event.type === undefined ? ops > 0 : event.type !== frame.t
}

/** The Rust library jacquard-repo inverts every commit that the relay sent. */
export async function checkOracle(report, stage, { oracle, keysOf, folder }) {
  const files = [join(folder, 'relay.frames'), join(folder, 'keys.json')]
  writeFileSync(
    files[0],
    Buffer.concat(stage.output.frames.flatMap(({ bytes }) => [u32(bytes.length), bytes])),
  )
  const dids = [...new Set(stage.output.frames.map(didOf))]
  const keys = await Promise.all(dids.map(async (did) => [did, await keysOf(did)]))
  writeFileSync(files[1], JSON.stringify(Object.fromEntries(keys)))
  const done = spawnSync(oracle, files, { encoding: 'utf8', maxBuffer: 1 << 28 })
  const lines = (done.stdout ?? '')
    .split('\n')
    .filter(Boolean)
    .map((line) => JSON.parse(line))
  const problems = done.status === 0 ? [] : [done.error?.message ?? done.stderr]
  if (lines.length !== stage.output.frames.length) problems.push(`${lines.length} lines`)
  const place = new Map()
  lines.forEach((line, i) => {
    const frame = stage.output.frames[i]
    if (line.error || line.seq !== frame.body.seq || line.type !== frame.t)
      problems.push(JSON.stringify(line))
    if (line.skipped && frame.body.since !== null)
      problems.push(`${line.seq}: a later commit without prevData`)
    if (line.key === undefined) return
    if (line.key < (place.get(didOf(frame)) ?? 0))
      problems.push(`${line.seq}: signed with a former key`)
    place.set(didOf(frame), line.key)
  })
  const verified = lines.filter((line) => line.key !== undefined).length
  const first = lines.filter((line) => line.skipped).length
  const moved = [...place.values()].filter((key) => key > 0).length
  if (verified === 0) problems.push('no commit was verified')
  if (moved < 2) problems.push('no account was seen with a second key')
  const seen = `${verified} commits inverted, ${first} first ones, ${moved} accounts with a new key`
  report.check(
    'jacquard-repo 0.12.2: every commit is signed and inverts to prevData',
    problems,
    seen,
  )
}

const u32 = (number) => {
  const bytes = Buffer.alloc(4)
  bytes.writeUInt32BE(number)
  return bytes
}

/** Replay and cursors: what is kept is what was sent. */
export async function checkReplay(report, stage, when) {
  const { frames, WebSocket, relay, output } = stage
  const connect = (cursor, until) =>
    connectOnce({ WebSocket, frames, url: relay.ws, cursor, until })
  const whole = (got) => got.at(-1).body.seq === output.lastSeq
  const live = output.frames
  const same = (got, wanted) => {
    if (got.length !== wanted.length) return [`${got.length} frames, ${wanted.length} were sent`]
    const at = got.findIndex((frame, i) => !frame.bytes.equals(wanted[i].bytes))
    return at < 0 ? [] : [`frame ${at} differs from seq ${wanted[at].body.seq}`]
  }
  const zero = await connect(0, whole)
  report.check(
    `${when}: replay from cursor 0 is what was sent live`,
    same(zero.frames, live),
    range(zero.frames),
  )
  const middle = live[live.length >> 1].body.seq
  const part = await connect(middle, whole)
  report.check(
    `${when}: a cursor in the middle gives what comes after it`,
    same(part.frames, live.slice((live.length >> 1) + 1)),
    `cursor ${middle}`,
  )
}

export async function checkCursors(report, stage) {
  const { frames, WebSocket, relay, output } = stage
  const connect = (cursor, ms) => connectOnce({ WebSocket, frames, url: relay.ws, cursor, ms })
  for (const cursor of [String(output.lastSeq + 1), '9007199254740993']) {
    const { frames: got, code, reason } = await connect(cursor)
    const [frame] = got
    const right =
      got.length === 1 && frame.op === -1 && frame.body.error === 'FutureCursor' && code === 1008
    report.is(
      `a cursor in the future (${cursor}) is FutureCursor, then close 1008`,
      right,
      `${got.length} frames, ${JSON.stringify(frame?.body)}, close ${code} ${reason}`,
    )
  }
  for (const cursor of ['abc', '1.5', '-5']) {
    const { status, body, frames: got } = await connect(cursor)
    const right = status === 400 && got.length === 0 && JSON.parse(body).error === 'InvalidRequest'
    report.is(`cursor=${cursor} is refused`, right, `HTTP ${status} ${body}`)
  }
  const { frames: got, code } = await connect('', 700)
  report.is('an empty cursor is live', got.length === 0 && code === 1006, `${got.length} frames`)
}
