// Has @atproto/api ask a relay: a JSON list of calls comes in, a list of what it got goes out. It
// checks each answer against the lexicon. See ../lib/clients.mjs.
import { createHash } from 'node:crypto'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { pathToFileURL } from 'node:url'

// From the folder that it runs in, where the package is installed.
const installed = createRequire(join(process.cwd(), 'package.json'))
const { AtpAgent, XRPCError } = await import(pathToFileURL(installed.resolve('@atproto/api')))
const [url] = process.argv.slice(2)
const { sync } = new AtpAgent({ service: url }).com.atproto

const results = []
for (const call of JSON.parse(await text(process.stdin))) {
  results.push(await answer(call).catch(refusal))
}
console.log(JSON.stringify(results))

/** `all`: the name of the list in a page, of which all pages are read. */
async function answer({ method, params, all }) {
  const { data } = await sync[method](params)
  if (data instanceof Uint8Array) return { sha256: createHash('sha256').update(data).digest('hex') }
  if (!all) return { data }
  const items = [...data[all]]
  let pages = 1
  for (let { cursor } = data; cursor; pages++) {
    const page = (await sync[method]({ ...params, cursor })).data
    items.push(...page[all])
    cursor = page.cursor
  }
  return { items, pages }
}

function refusal(error) {
  if (!(error instanceof XRPCError)) throw error
  return { error: error.error, status: error.status, type: error.constructor.name }
}
