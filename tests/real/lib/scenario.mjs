// What the people of this small network do. Each step ends with `settle`, so that the events of one
// account never come from two hosts at once and the expected order is certain.
import { setTimeout as sleep } from 'node:timers/promises'
import { now } from './network.mjs'
import { AGENT } from './recorder.mjs'

const POST = 'app.bsky.feed.post'
const PIXEL = Buffer.from(
  'iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==',
  'base64',
)

/** Makes the relay know both hosts, and all subscribers live before the scenario begins. */
export async function meet(stage, startSubscribers) {
  const [one, two] = stage.upstream
  await stage.relay.requestCrawl(one.pds.host)
  await connected(one)
  // The second host makes itself known: a PDS calls requestCrawl when something happens on it.
  const herald = await two.pds.createAccount('herald')
  await connected(two)
  stage.subscribers = startSubscribers()
  for (let i = 0; i < 100; i++) {
    await herald.post(`is everybody here? ${i}`)
    await sleep(200)
    if (stage.subscribers.every((s) => s.events.length)) break
  }
  await stage.settle('meeting')
}

// What a host sent before the relay was there may be forwarded or not.
async function connected(upstream) {
  const { pds } = upstream
  for (let i = 0; i < 200 && !pds.upgrades.some(isRelay); i++) await sleep(50)
  if (!pds.upgrades.some(isRelay)) throw new Error(`the relay did not connect to ${pds.name}`)
  upstream.firstSeq = await pds.seq()
}

/** Only the relay and the recorders subscribe to the hosts. */
const isRelay = (upgrade) => upgrade.agent !== AGENT

/** Accounts and records of every kind. */
export async function life(stage, posts = 60) {
  const [one, two] = stage.network.pdses
  const people = {}
  for (const [name, pds] of [
    ['alice', one],
    ['bob', one],
    ['dave', two],
    ['erin', two],
  ]) {
    people[name] = await pds.createAccount(name)
  }
  const { alice, bob, dave, erin } = people
  const first = await alice.post('hello from a real PDS')
  const ref = { uri: first.uri, cid: first.cid }
  await bob.post('reply 🐛 Zażółć gęślą jaźń', { reply: { root: ref, parent: ref } })
  const { blob } = await alice.uploadBlob(PIXEL, 'image/png')
  const images = [{ alt: 'dot', image: blob }]
  await alice.post('with an image', { embed: { $type: 'app.bsky.embed.images', images } })
  for (const account of [alice, dave]) {
    for (const word of ['one', 'two']) {
      await account.put('app.bsky.actor.profile', 'self', { displayName: word })
    }
    await account.create('app.bsky.graph.follow', { subject: bob.did, createdAt: now() })
    await account.delete((await account.post('to be deleted')).uri)
  }
  await bob.create('app.bsky.feed.like', { subject: ref, createdAt: now() })
  await unknownLexicon(erin, first.cid)
  for (const account of [bob, erin]) await batches(account)
  for (let i = 0; i < posts; i++) await [alice, dave][i % 2].post(`post number ${i}`)
  await stage.settle('life')
  return people
}

const unknownLexicon = (account, cid) =>
  account.create(
    'com.example.thing',
    {
      n: 1,
      big: 9007199254740991,
      neg: -5,
      nul: null,
      list: [true, false, { a: 'b' }],
      bytes: { $bytes: 'AAECAw' },
      link: { $link: cid },
    },
    { rkey: 'a:b.c_d~e-f', validate: false },
  )

async function batches(account) {
  const write = (action, rest) => ({
    $type: `com.atproto.repo.applyWrites#${action}`,
    collection: POST,
    ...rest,
  })
  const value = (text) => ({ $type: POST, text, createdAt: now() })
  const made = await account.writes(
    Array.from({ length: 50 }, (_, i) => write('create', { value: value('x'.repeat(i * 5)) })),
  )
  const keys = made.results.map((result) => result.uri.split('/').pop())
  await account.writes([
    ...keys.slice(0, 10).map((rkey) => write('delete', { rkey })),
    ...keys.slice(10, 20).map((rkey) => write('update', { rkey, value: value('edited') })),
    write('create', { value: value('mixed') }),
  ])
}

/** Handles change; accounts come and go, on both versions of the PDS. */
export async function changes(stage) {
  for (const pds of stage.network.pdses) {
    const mover = await pds.createAccount('carol')
    await mover.post('before')
    await stage.settle(`${pds.name}: new account`)
    const handle = `caroline${pds.domain}`
    await mover.call('com.atproto.identity.updateHandle', { body: { handle } })
    await mover.deactivate()
    await mover.activate()
    await mover.post('back again')
    await mover.deactivate()
    const taken = await pds.createAccount('mallory')
    await taken.post('something bad')
    for (const applied of [true, false]) await pds.takedown(taken.did, applied)
    await taken.post('something worse')
    await pds.takedown(taken.did, true)
    const gone = await pds.createAccount('frank')
    await gone.post('short-lived')
    await stage.settle(`${pds.name}: handle, deactivation, takedown`)
    await pds.deleteAccount(gone.did)
    await stage.settle(`${pds.name}: deletion`)
  }
}

/**
 * Moves an account to another PDS as its owner would, and keeps both PDSes talking about it.
 * `blob`: the account has one. `lateRecord`: it still writes at the old host after the export, so
 * that its chain of commits breaks.
 */
export async function migrate(stage, account, to, plc, { blob = false, lateRecord = false } = {}) {
  const from = account.pds
  const step = (what) => stage.settle(`migration ${from.version} to ${to.version}: ${what}`)
  const { did: audience } = await to.call('com.atproto.server.describeServer')
  const params = { aud: audience, lxm: 'com.atproto.server.createAccount' }
  const { token } = await account.call('com.atproto.server.getServiceAuth', { params })
  const moved = await to.createMovedAccount(account, token)
  const car = await from.call('com.atproto.sync.getRepo', { params: { did: account.did } })
  if (lateRecord) await account.post('forgotten at the old host')
  await moved.call('com.atproto.repo.importRepo', { type: 'application/vnd.ipld.car', body: car })
  if (blob) await moved.uploadBlob(PIXEL, 'image/png')
  await step('repository imported')
  await plc.move(
    account.did,
    from,
    await moved.call('com.atproto.identity.getRecommendedDidCredentials'),
  )
  await step('directory changed')
  await moved.activate()
  await step('active at the new host')
  await account.post('a late post at the old host')
  await step('late post at the old host')
  await account.deactivate()
  await step('deactivated at the old host')
  await moved.post('hello from my new home')
  await moved.post('and again')
  await step('posts at the new host')
  return moved
}

/** The directory as an account's owner uses it. */
export function directoryClient(installed, url) {
  const plc = installed('@did-plc/lib')
  const { Secp256k1Keypair } = installed('@atproto/crypto')
  const client = new plc.Client(url)
  return {
    /** An identity that says to be on a host which knows nothing of it. */
    async createAlone(handle, pds) {
      const key = await Secp256k1Keypair.create()
      const rotationKeys = [key.did()]
      const signed = { signingKey: key.did(), rotationKeys, signer: key }
      return client.createDid({ handle, pds: pds.url, ...signed })
    },
    /** Points the account to what the new host recommends, signed by the old host's key. */
    async move(did, from, recommended) {
      const { rotationKeys, alsoKnownAs, verificationMethods, services } = recommended
      const key = await Secp256k1Keypair.import(from.rotationKeyHex)
      const last = await client.getLastOp(did)
      const change = { rotationKeys, alsoKnownAs, verificationMethods, services }
      const operation = await plc.createUpdateOp(last, key, (o) => ({ ...o, ...change }))
      await client.sendOperation(did, operation)
    },
    /** Every signing key that an account ever had, oldest first, as multibase. */
    async keys(did) {
      const log = await (await fetch(`${url}/${did}/log/audit`)).json()
      const keys = log
        .filter((entry) => !entry.nullified)
        .map(({ operation: o }) => o.verificationMethods?.atproto ?? o.signingKey)
        .filter(Boolean)
        .map((key) => key.replace('did:key:', ''))
      return keys.filter((key, i) => key !== keys[i - 1])
    },
  }
}

/** Kills the relay again and again while people write. */
export async function killed(stage, writers, kills) {
  let writing = true
  const written = { posts: 0, errors: 0 }
  const work = writers.map(async (account) => {
    for (let i = 0; writing; i++) {
      await account.post(`while it dies ${i}`).then(
        () => written.posts++,
        () => written.errors++,
      )
      await sleep(30)
    }
  })
  const ends = []
  const before = stage.network.pdses.map((pds) => pds.upgrades.length)
  for (let kill = 0; kill < kills; kill++) {
    await sleep(1500)
    ends.push(await stage.relay.end('SIGKILL'))
    await sleep(kill * 400)
    await stage.relay.start()
  }
  await sleep(1500)
  writing = false
  await Promise.all(work)
  await stage.settle('killed while people write')
  const reconnects = stage.network.pdses.map((pds, i) =>
    pds.upgrades.slice(before[i]).filter(isRelay),
  )
  return { ends, written, reconnects }
}
