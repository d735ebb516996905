// What a relay must do with each upstream event, written down once more and independently: the
// rules of the protocol on a map of accounts. It decides from what the PDSes sent and what the
// directory said, never from what the relay answered.
import { didOf } from './frames.mjs'

/**
 * One upstream event with its verdict: `must` be forwarded, `may` be, or must not (`drop`), and why.
 * `bodies` are the forms in which it may be forwarded: lists of fields that are left out.
 */
const verdict = (kind, why, omits = [[]]) => ({ kind, why, omits })

export class Model {
  constructor({ commitOf }) {
    this.commitOf = commitOf
    this.accounts = new Map()
  }

  /** Judges one event of `pds`, given the account's entry in the directory at that moment. */
  async judge(frame, pds, entry) {
    const did = didOf(frame)
    const authoritative = entry !== null && entry.host === pds.host
    if (frame.t === '#identity') return this.identity(frame, authoritative, entry)
    if (!['#account', '#commit', '#sync'].includes(frame.t)) return verdict('drop', `type ${frame.t}`)
    if (!authoritative) return verdict('drop', 'the directory names another host')
    const known = this.accounts.has(did)
    const account = this.accounts.get(did) ?? { active: true, status: undefined, rev: '', cid: '' }
    if (frame.t === '#account') return this.status(frame, account, known)
    const judged = await this.repository(frame, account, entry)
    if (judged.kind === 'must') this.accounts.set(did, account)
    return judged
  }

  // Forwarded from any host; the handle only as far as the directory agrees with it.
  identity(frame, authoritative, entry) {
    if (frame.body.handle === undefined) return verdict('must', '')
    const agreed = authoritative && entry.handle === frame.body.handle
    return agreed ? verdict('must', '', [[], ['handle']]) : verdict('must', '', [['handle']])
  }

  status(frame, account, known) {
    const { did, active, status } = frame.body
    const repeated = known && account.stated && account.active === active && account.status === status
    this.accounts.set(did, Object.assign(account, { active, status, stated: true }))
    return repeated ? verdict('may', 'an #account that repeats the status') : verdict('must', '')
  }

  async repository(frame, account, entry) {
    const { rev } = frame.body
    if (!account.active) return verdict('drop', `${frame.t} of an inactive account`)
    const commit = await this.commitOf(frame, entry.key)
    if (frame.t === '#sync' && rev === account.rev && commit.cid === account.cid) {
      return verdict('drop', 'a #sync that says what the last commit said')
    }
    if (rev <= account.rev) return verdict('drop', `${frame.t} with a rev that is not newer`)
    if (commit.did !== didOf(frame)) return verdict('drop', `${frame.t} with a commit of another DID`)
    if (commit.rev !== rev) return verdict('drop', `${frame.t} whose rev is not that of its commit`)
    if (!commit.signed) return verdict('drop', `${frame.t} not signed with the account's key`)
    if (frame.t === '#commit') {
      if (frame.body.commit.toString() !== commit.cid) return verdict('drop', 'another commit block')
      if (account.rev && !frame.body.prevData) return verdict('drop', '#commit without prevData')
    }
    Object.assign(account, { rev, cid: commit.cid })
    return verdict('must', '')
  }
}

/** Compares the relay's stream with the verdicts: per account, in order, byte for byte. */
export class Matcher {
  constructor({ withSeq }) {
    this.withSeq = withSeq
    this.expected = new Map()
    this.wrong = []
    this.counts = { must: 0, may: 0, drop: 0, forwarded: 0, repeatsForwarded: 0 }
    this.dropped = new Map()
  }

  /** Adds what the model said of an upstream event. */
  expect(frame, pds, judged) {
    this.counts[judged.kind]++
    if (judged.kind === 'drop') {
      this.dropped.set(judged.why, (this.dropped.get(judged.why) ?? 0) + 1)
    }
    const did = didOf(frame)
    if (!this.expected.has(did)) this.expected.set(did, { events: [], next: 0 })
    this.expected.get(did).events.push({ frame, pds, ...judged })
  }

  /** Takes the relay's next event. */
  take(got) {
    const account = this.expected.get(didOf(got))
    const place = account ? this.find(account, got) : -1
    if (place < 0) {
      this.wrong.push(this.explain(account, got))
      return
    }
    const { kind } = account.events[place]
    account.next = place + 1
    this.counts.forwarded++
    if (kind === 'may') this.counts.repeatsForwarded++
  }

  // Only events that need not be forwarded may be passed over.
  find(account, got) {
    for (let i = account.next; i < account.events.length; i++) {
      const event = account.events[i]
      if (event.kind !== 'drop' && this.equal(event, got)) return i
      if (event.kind === 'must') return -1
    }
    return -1
  }

  equal(event, got) {
    if (event.frame.t !== got.t) return false
    return event.omits.some((omit) =>
      this.withSeq(event.frame, got.body.seq, omit).equals(got.bytes),
    )
  }

  explain(account, got) {
    const what = `${got.t} seq ${got.body.seq} of ${didOf(got)}`
    const events = account?.events ?? []
    const same = events.findIndex((event) => this.equal({ ...event, omits: [[], ['handle']] }, got))
    if (same < 0) return `${what}: no upstream event is like it`
    const { kind, why, pds } = events[same]
    if (kind === 'drop') return `${what} from ${pds}: must not be forwarded: ${why}`
    if (same < account.next) return `${what} from ${pds}: a second time, or out of order`
    return `${what} from ${pds}: an event before it is missing, or the form is wrong`
  }

  /** Events that must be forwarded and were not seen yet. */
  missing() {
    const missing = []
    for (const [did, { events, next }] of this.expected) {
      for (const { kind, frame, pds } of events.slice(next)) {
        if (kind === 'must') missing.push(`${frame.t} seq ${frame.body.seq} of ${pds}, ${did}`)
      }
    }
    return missing
  }
}
