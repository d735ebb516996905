// The sync queries, compared with the PDSes.

/** The queries agree with the PDSes. */
export async function checkQueries(report, stage, people) {
  const { relay } = stage
  const { active, inactive } = people
  const wrong = []
  for (const account of active) {
    const params = { did: account.did }
    const theirs = await account.pds.call('com.atproto.sync.getLatestCommit', { params })
    const ours = await relay.query('com.atproto.sync.getLatestCommit', params)
    if (ours.body?.cid !== theirs.cid || ours.body?.rev !== theirs.rev)
      wrong.push(`${account.handle}: ${JSON.stringify(ours)}`)
    const status = await relay.query('com.atproto.sync.getRepoStatus', params)
    if (status.body?.active !== true || status.body?.rev !== theirs.rev)
      wrong.push(`${account.handle}: ${JSON.stringify(status)}`)
  }
  report.check(
    'getLatestCommit and getRepoStatus agree with the PDS',
    wrong,
    `${active.length} accounts`,
  )
  const open = []
  for (const { account, error, status } of inactive) {
    const params = { did: account.did }
    const commit = await relay.query('com.atproto.sync.getLatestCommit', params)
    if (commit.body?.error !== error) open.push(`${status}: ${JSON.stringify(commit)}`)
    const repo = await relay.query('com.atproto.sync.getRepoStatus', params)
    if (repo.body?.active !== false || repo.body?.status !== status)
      open.push(`${status}: ${JSON.stringify(repo)}`)
  }
  report.check(
    'inactive accounts are named as such',
    open,
    inactive.map((i) => i.status).join(', '),
  )
  await checkLists(report, relay, stage, people)
}

async function checkLists(report, relay, stage, { active, inactive }) {
  const repos = await all(relay, 'com.atproto.sync.listRepos', 'repos', { limit: 3 })
  const listed = new Map(repos.map((repo) => [repo.did, repo]))
  const wrong = active
    .filter(({ did }) => listed.get(did)?.active === false || !listed.has(did))
    .map((a) => `${a.handle} is not active`)
  wrong.push(
    ...inactive
      .filter(({ account }) => listed.get(account.did)?.active)
      .map(({ account }) => `${account.handle} is active`),
  )
  if (listed.size !== repos.length) wrong.push('an account is listed twice')
  report.check(
    'listRepos, page by page, has every active account once',
    wrong,
    `${repos.length} repos`,
  )
  const posters = await all(relay, 'com.atproto.sync.listReposByCollection', 'repos', {
    limit: 2,
    collection: 'app.bsky.feed.post',
  })
  const have = new Set(posters.map(({ did }) => did))
  report.check(
    'listReposByCollection has everybody who posts',
    active.filter(({ did }) => !have.has(did)).map((a) => a.handle),
    `${posters.length} repos`,
  )
  const hosts = await all(relay, 'com.atproto.sync.listHosts', 'hosts', {})
  const names = hosts.map((host) => host.hostname)
  const unlisted = stage.network.pdses
    .filter((pds) => !names.includes(pds.host))
    .map((pds) => pds.host)
  for (const pds of stage.network.pdses) {
    const { body } = await relay.query('com.atproto.sync.getHostStatus', { hostname: pds.host })
    if (body?.status !== 'active' || body?.seq !== (await pds.seq()))
      unlisted.push(JSON.stringify(body))
  }
  report.check(
    'listHosts and getHostStatus have both hosts, active, at their last seq',
    unlisted,
    JSON.stringify(hosts),
  )
}

async function all(relay, nsid, field, params) {
  const found = []
  let cursor
  for (let page = 0; page < 100; page++) {
    const { body } = await relay.query(nsid, cursor ? { ...params, cursor } : params)
    found.push(...(body?.[field] ?? []))
    cursor = body?.cursor
    if (!cursor) return found
  }
  throw new Error(`${nsid} has no end`)
}
