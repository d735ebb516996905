// What a relay must do with each upstream event, written down once more and independently: the
// rules of the protocol on a map of accounts. It decides from what the PDSes sent and what the
// directory said, never from what the relay answered.
import { didOf } from './frames.mjs'

/**
 * What is to become of an upstream event, and why: it `must` be forwarded, `may` be, or must not be
 * (`drop`). `omits` are the forms in which it may pass: lists of fields that are left out.
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
    if (!['#account', '#commit', '#sync'].includes(frame.t))
      return verdict('drop', `type ${frame.t}`)
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
    const repeated =
      known && account.stated && account.active === active && account.status === status
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
    if (commit.did !== didOf(frame))
      return verdict('drop', `${frame.t} with a commit of another DID`)
    if (commit.rev !== rev) return verdict('drop', `${frame.t} whose rev is not that of its commit`)
    if (!commit.signed) return verdict('drop', `${frame.t} not signed with the account's key`)
    if (frame.t === '#commit') {
      if (frame.body.commit.toString() !== commit.cid)
        return verdict('drop', 'another commit block')
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
    this.lost = []
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
    const account = this.expected.get(didOf(got)) ?? { events: [], next: 0 }
    const place = account.events.findIndex(
      (event, i) => i >= account.next && event.kind !== 'drop' && this.equal(event, got),
    )
    if (place < 0) {
      this.wrong.push(this.explain(account, got))
      return
    }
    this.lost.push(...account.events.slice(account.next, place).filter(isMust))
    account.next = place + 1
    this.counts.forwarded++
    if (!isMust(account.events[place])) this.counts.repeatsForwarded++
  }

  equal(event, got) {
    if (event.frame.t !== got.t) return false
    return event.omits.some((omit) =>
      this.withSeq(event.frame, got.body.seq, omit).equals(got.bytes),
    )
  }

  explain(account, got) {
    const what = `${got.t} seq ${got.body.seq} of ${didOf(got)}`
    const bothForms = [[], ['handle']]
    const same = account.events.find((event) => this.equal({ ...event, omits: bothForms }, got))
    if (!same) return `${what}: no upstream event is like it`
    const { kind, why, pds } = same
    if (kind === 'drop') return `${what} from ${pds}: must not be forwarded: ${why}`
    return `${what} from ${pds}: a second time, out of order, or with the wrong handle`
  }

  /** Events that must be forwarded and were passed over, or not seen yet. */
  missing() {
    const waiting = [...this.expected.values()].flatMap(({ events, next }) =>
      events.slice(next).filter(isMust),
    )
    return [...this.lost, ...waiting].map(
      ({ frame, pds }) => `${frame.t} seq ${frame.body.seq} of ${pds}, ${didOf(frame)}`,
    )
  }
}

const isMust = (event) => event.kind === 'must'
