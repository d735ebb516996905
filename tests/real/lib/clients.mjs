// Clients of XRPC that nobody here wrote ask the relay every query there is; what they get is
// compared with what the PDSes say of their accounts.
import { spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { differs } from './compare.mjs'
import { didOf } from './frames.mjs'
import { goatRelay } from './goat.mjs'
import { HERE } from './install.mjs'

const COLLECTION = 'app.bsky.feed.post'
const WITHOUT_RECORDS = 'com.example.nothing'
/** Errors that a lexicon names, for which `@atproto/api` has a class. */
const NAMED = ['RepoNotFound', 'RepoTakendown', 'RepoDeactivated', 'HostNotFound']

/** All of it, on the network as it is now; the answer is what is true. */
export async function checkClients(report, stage) {
  const { installed, relay } = stage
  const truth = await whatIs(stage)
  const asked = questions(truth)
  const program = (name) => join(HERE, 'clients', name)
  for (const [name, command, args, cwd] of [
    ['@atproto/api 0.21.0', installed.node24, [program('atproto-api.mjs')], installed.clients],
    ['atproto (Python) 0.0.73', installed.python, [program('library.py')]],
  ]) {
    const got = await ask(command, [...args, relay.http], cwd, asked)
    const problems = got.error ? [got.error] : asked.flatMap((one, i) => wrong(one, got[i], name))
    report.check(`${name} gets what the PDSes say`, problems, `${asked.length} questions`)
  }
  await checkGoat(report, stage, truth)
  return truth
}

/** What the directory, the PDSes and, for what they have forgotten, the stream say. */
async function whatIs(stage) {
  const { output, network } = stage
  const accounts = []
  for (const did of new Set(output.frames.map(didOf))) {
    const commits = output.frames.filter(({ t, body }) => t === '#commit' && body.repo === did)
    if (commits.length === 0) continue
    const { host } = await stage.directory(did)
    const pds = network.pdses.find((one) => one.host === host)
    accounts.push({ did, pds, ...(await standing(pds, did)), last: commits.at(-1).body })
  }
  const posting = listed(output.frames).filter((did) => {
    return accounts.find((account) => account.did === did).collections?.includes(COLLECTION)
  })
  const hosts = []
  for (const pds of network.pdses) {
    const there = accounts.filter((account) => account.pds === pds && account.status !== 'deleted')
    const { host: hostname } = pds
    hosts.push({ hostname, seq: await pds.seq(), accountCount: there.length, status: 'active' })
  }
  return { accounts, hosts, posting }
}

/** Who has records of the collection by what was written, in the order in which they began to. */
function listed(frames) {
  const records = new Map()
  for (const { body } of frames) {
    for (const { action, path } of body.ops ?? []) {
      if (!path.startsWith(`${COLLECTION}/`)) continue
      const keys = records.get(body.repo) ?? new Set()
      action === 'delete' ? keys.delete(path) : keys.add(path)
      records.set(body.repo, keys)
    }
    // Whose last one goes begins anew with the next.
    if (records.get(body.repo)?.size === 0) records.delete(body.repo)
  }
  return [...records.keys()]
}

/** What the account's PDS says of it. One that it has forgotten is deleted. */
async function standing(pds, did) {
  const call = (name) => pds.call(`com.atproto.sync.${name}`, { params: { did } })
  const { active, status } = await call('getRepoStatus').catch(() => ({
    active: false,
    status: 'deleted',
  }))
  if (!active) return { active, status }
  const { cid: head, rev } = await call('getLatestCommit')
  const { collections } = await pds.call('com.atproto.repo.describeRepo', { params: { repo: did } })
  return { active, status, head, rev, collections, car: await call('getRepo') }
}

/** Every call, and what must come of it. */
function questions({ accounts, hosts, posting }) {
  const repos = accounts.map(({ did, active, status, head, rev, last }) => {
    const known = { head: head ?? last.commit.toString(), rev: rev ?? last.rev }
    return { did, active, ...known, ...(status && { status }) }
  })
  const [{ hostname }] = hosts
  const nobody = 'did:plc:aaaaaaaaaaaaaaaaaaaaaaaa'
  const refused = (method, params, error, status) => ({ method, params, wanted: { error, status } })
  return [
    ...pages('listRepos', 'repos', repos),
    ...pages('listHosts', 'hosts', hosts),
    ...accounts.flatMap(ofAccount),
    ...hosts.map((host) => {
      return {
        method: 'getHostStatus',
        params: { hostname: host.hostname },
        wanted: { data: host },
      }
    }),
    // It has no output in the lexicon.
    { method: 'requestCrawl', params: { hostname }, wanted: {} },
    { method: 'notifyOfUpdate', params: { hostname }, wanted: {} },
    ...ofCollections(posting, refused),
    ...['getRepoStatus', 'getLatestCommit', 'getRepo'].flatMap((method) => [
      refused(method, { did: nobody }, 'RepoNotFound', 404),
      refused(method, { did: 'alice.pds1.test' }, 'InvalidRequest', 400),
    ]),
    refused('getHostStatus', { hostname: 'pds.example.com' }, 'HostNotFound', 404),
    refused('getHostStatus', { hostname: '127.0.0.1' }, 'InvalidRequest', 400),
    refused('requestCrawl', { hostname: 'no.such.host.invalid' }, 'HostNotFound', 400),
    refused('listRepos', { cursor: 'begin' }, 'InvalidRequest', 400),
    refused('listHosts', { cursor: '1000000' }, 'InvalidRequest', 400),
  ]
}

/** The whole list, one at a time and all at once. */
function pages(method, all, items, params = {}) {
  return [
    { method, params: { ...params, limit: 1 }, all, wanted: { items, pages: items.length } },
    { method, params: { ...params, limit: 1000 }, all, wanted: { items, pages: 1 } },
    { method, params, all, wanted: { items, pages: 1 } },
  ]
}

function ofCollections(posting, refused) {
  const method = 'listReposByCollection'
  const repos = posting.map((did) => ({ did }))
  const params = { collection: WITHOUT_RECORDS }
  return [
    ...pages(method, 'repos', repos, { collection: COLLECTION }),
    { method, params, wanted: { data: { repos: [] } } },
    refused(method, { collection: COLLECTION, cursor: 'begin' }, 'InvalidRequest', 400),
  ]
}

const ERRORS = {
  takendown: 'RepoTakendown',
  deactivated: 'RepoDeactivated',
  deleted: 'RepoNotFound',
}

function ofAccount({ did, active, status, head, rev, car }) {
  const ask = (method, wanted) => ({ method, params: { did }, wanted })
  const data = { did, active, ...(active && { rev }), ...(status && { status }) }
  const said = ask('getRepoStatus', { data })
  if (!active) {
    const refused = { error: ERRORS[status], status: status === 'deleted' ? 404 : 403 }
    return [said, ask('getLatestCommit', refused), ask('getRepo', refused)]
  }
  // The relay sends the client on to the PDS.
  const sha256 = createHash('sha256').update(car).digest('hex')
  return [said, ask('getLatestCommit', { data: { cid: head, rev } }), ask('getRepo', { sha256 })]
}

/** What is wrong with what a client got. */
function wrong({ method, params, wanted }, got, client) {
  const { type, ...rest } = got
  const seen = Object.keys(wanted).length === 0 && !rest.error ? {} : rest
  const problems = differs(seen, wanted)
  if (
    type &&
    type !==
      (NAMED.includes(wanted.error) && hasClass(method) ? `${wanted.error}Error` : 'XRPCError')
  )
    problems.push(`the error is a ${type}`)
  return problems.map((problem) => `${client}: ${method} ${JSON.stringify(params)}: ${problem}`)
}

// The lexicon of requestCrawl does not name HostNotFound.
const hasClass = (method) => method !== 'requestCrawl'

async function ask(command, args, cwd, questions) {
  const calls = questions.map(({ method, params, all }) => ({ method, params, all }))
  const child = spawn(command, args, { cwd, stdio: ['pipe', 'pipe', 'pipe'] })
  const timer = setTimeout(() => child.kill('SIGKILL'), 60_000)
  const ended = new Promise((resolve) => {
    child.on('error', (error) => resolve(error.message))
    child.on('close', (code, signal) => resolve(code ?? signal))
  })
  child.stdin.end(JSON.stringify(calls))
  const [out, complaint] = await Promise.all([text(child.stdout), text(child.stderr)])
  const code = await ended
  clearTimeout(timer)
  return code === 0 ? JSON.parse(out) : { error: `ended with ${code}: ${complaint}` }
}

async function checkGoat(report, { installed, relay }, { accounts, hosts, posting }) {
  const rows = accounts.map(({ did, active, status, rev, last }) => {
    return [did, active ? 'active' : status, rev ?? last.rev].join('\t')
  })
  const list = await goatRelay(installed, relay.http, ['account', 'list'])
  report.check('goat relay account list is what the PDSes say', differs(list.lines, rows))
  const wanted = hosts.map((h) => [h.hostname, h.status, h.accountCount, h.seq].join('\t'))
  const seen = await goatRelay(installed, relay.http, ['host', 'list'])
  report.check('goat relay host list is what the PDSes say', differs(seen.lines, wanted))
  const args = ['account', 'list', '--collection', COLLECTION]
  const { lines } = await goatRelay(installed, relay.http, args)
  report.check('goat relay account list --collection too', differs(lines, posting))
}
