// schemathesis asks the relay everything that docs/openapi.yaml describes, with good and with bad
// data, and compares each answer with it.
import { spawn } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { HERE } from './install.mjs'

/** How a request that is right may be answered. */
const GOOD = /^[23]/
/** What each operation that has it in its description must have been provoked to. */
const PROVOKED = ['400', '404']
/** What nobody can get from schemathesis, and what is answered instead. */
const INSTEAD = { subscribeRepos: '426' }
/** What is answered only to who has logged in with the form; the tests in a browser do. */
const BEHIND_LOGIN = /^operator(?!Overview|LoginPage)/

/** Compares a relay whose hosts and accounts are `known` with its description. */
export async function contract({ relay, report, python, folder, password, known }) {
  const answers = join(folder, 'answers.json')
  const done = await schemathesis(python, relay.http, {
    ZLAY_KNOWN: JSON.stringify(known),
    ZLAY_ANSWERS: answers,
    ZLAY_PASSWORD: password,
  })
  const [, selected] = done.text.match(/Selected: (\d+)\/\1\n/) ?? []
  const [, tested] = done.text.match(/Tested: (\d+)\n/) ?? []
  const problems = done.code === 0 ? [] : [`exit code ${done.code}`, ...failures(done.text)]
  if (!selected || selected !== tested) problems.push(`${tested} of ${selected} were tested`)
  const cases = done.text.match(/\d+ generated/)?.[0]
  report.check(
    'schemathesis: the relay answers what docs/openapi.yaml says, and nothing else',
    problems,
    `${tested} operations, ${cases} requests`,
  )
  const seen = Object.entries(JSON.parse(readFileSync(answers, 'utf8')))
  const never = seen.flatMap(([operation, { seen, described }]) => {
    const instead = BEHIND_LOGIN.test(operation) ? '401' : INSTEAD[operation]
    const missing = instead
      ? [instead]
      : [GOOD, ...PROVOKED.filter((s) => described.includes(s) && !operation.startsWith('operator'))]
    const problems = missing.filter((status) => !Object.keys(seen).some((s) => s.match(status)))
    return problems.map((status) => `${operation}: no ${status} in ${JSON.stringify(seen)}`)
  })
  if (seen.length !== Number(selected)) never.push(`${seen.length} operations`)
  report.check('and it was provoked to each kind of answer', never, `${seen.length} operations`)
  const metrics = await (await fetch(`${relay.metrics}/metrics`)).text()
  const panics = metrics.match(/^relay_panics_total (\d+)$/m)?.[1]
  report.is('nothing of the relay has panicked', panics === '0', `relay_panics_total ${panics}`)
  report.is('and it is healthy', (await relay.get('/_health')).status === 200)
}

function schemathesis(python, url, env) {
  const cwd = join(HERE, 'contract')
  const bin = join(dirname(python), 'schemathesis')
  const description = join(HERE, '../../docs/openapi.yaml')
  const args = ['run', description, '--url', url, '--no-color', '--warnings', 'off']
  const options = { cwd, env: { ...process.env, ...env, PYTHONDONTWRITEBYTECODE: '1' } }
  const child = spawn(bin, args, { ...options, stdio: ['ignore', 'pipe', 'pipe'] })
  const timer = setTimeout(() => child.kill('SIGKILL'), 180_000)
  let text = ''
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (piece) => (text += piece))
  }
  return new Promise((resolve) => {
    child.on('error', (error) => resolve({ code: error.message, text }))
    child.on('close', (code, signal) => {
      clearTimeout(timer)
      resolve({ code: code ?? signal, text })
    })
  })
}

/** What schemathesis says of each failure, shortened. */
function failures(text) {
  const from = text.search(/^=+ (ERRORS|FAILURES) =+$/m)
  const lines = text.slice(Math.max(from, 0)).split('\n').filter(Boolean)
  return [lines.map((line) => line.slice(0, 300)).join('\n       ')]
}
