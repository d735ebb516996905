// Installs what the tests need, from the lock files beside this folder, into a work folder outside
// the checkout, so that the next run finds it. Nothing is installed twice: a folder carries the
// digest, or the name, of what it was installed from.
import { spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import {
  cpSync,
  existsSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { homedir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

/** The folder tests/real. */
export const HERE = dirname(dirname(fileURLToPath(import.meta.url)))
const EXAMPLES = join(HERE, '../../docs/examples')
/**
 * The command line tool goat, from the time when it lived in indigo's repository: its own module is
 * not on every module proxy.
 */
const GOAT = 'github.com/bluesky-social/indigo/cmd/goat@v0.0.0-20250626183556-5641d3c27325'
/** The copier of repositories, at the commit whose libraries `subscribers/indigo` is built with. */
const TAP = 'github.com/bluesky-social/indigo/cmd/tap@v0.0.0-20260605210604-af2fec94f34c'
/** goat's address of the directory, for which it has no option: the linker sets it. */
const GOAT_DIRECTORY = 'github.com/bluesky-social/indigo/atproto/identity.DefaultPLCURL'
const CACHE = join(process.env.XDG_CACHE_HOME || join(homedir(), '.cache'), 'zlay')
/** Where installed packages are kept between runs. */
export const WORK = process.env.ZLAY_REAL_WORK || join(CACHE, 'real')
/** Where the main crate is built. */
export const CARGO_TARGET = process.env.CARGO_TARGET_DIR || join(CACHE, 'target')

/** Installs everything, for a directory at `plcUrl`, and says where it is. */
export function install(plcUrl) {
  return {
    ...installForOperator(plcUrl),
    clients: npm('clients', process.env.PATH),
    indigo: indigo(),
    tap: tap(),
    oracle: oracle(),
  }
}

/** Installs what the operator's part needs, and says where it is. */
export function installForOperator(plcUrl) {
  return { ...installPdses(), goat: goat(plcUrl), python: python() }
}

/** Builds the subscribers of docs/examples, and says how each is started. */
export function installExamples() {
  mkdirSync(WORK, { recursive: true })
  const node24 = join(npm('runtimes', process.env.PATH), 'node_modules', `node24-${process.arch}`)
  const typescript = once('example-typescript', digest(join(EXAMPLES, 'typescript')), (into) => {
    cpSync(join(EXAMPLES, 'typescript'), into, { recursive: true })
    run('npm', ['ci', '--no-audit', '--no-fund', '--loglevel=error'], { cwd: into })
  })
  const go = once('example-go', digest(join(EXAMPLES, 'go')), (into) => {
    run('go', ['build', '-o', join(into, 'subscribe'), '.'], { cwd: join(EXAMPLES, 'go') })
  })
  const target = join(CARGO_TARGET, 'examples')
  const env = { ...process.env, CARGO_TARGET_DIR: target }
  run('cargo', ['build', '--locked', '--quiet'], { cwd: join(EXAMPLES, 'rust'), env })
  const examples = [
    { name: 'TypeScript', command: join(node24, 'bin/node'), args: ['subscribe.ts'], cwd: typescript },
    { name: 'Python', command: python(), args: [join(EXAMPLES, 'python/subscribe.py')] },
    { name: 'Go', command: join(go, 'subscribe'), args: [] },
    { name: 'Rust', command: join(target, 'debug/zlay-example-subscriber'), args: [] },
  ]
  return { examples }
}

/** Installs the library that drives a browser, and a Node.js that is new enough for it. */
export function installForBrowser() {
  mkdirSync(WORK, { recursive: true })
  const runtimes = npm('runtimes', process.env.PATH)
  const node = join(runtimes, 'node_modules', `node24-${process.arch}`, 'bin/node')
  const library = npm('browser', process.env.PATH, undefined, join(HERE, '../browser/npm'))
  return { node, library }
}

/** Installs the two PDSes and the directory, and says where they are. */
export function installPdses() {
  mkdirSync(WORK, { recursive: true })
  const runtimes = npm('runtimes', process.env.PATH)
  const node20 = join(runtimes, 'node_modules', `node20-${process.arch}`)
  const node24 = join(runtimes, 'node_modules', `node24-${process.arch}`)
  return {
    node20: join(node20, 'bin/node'),
    node24: join(node24, 'bin/node'),
    pds04: npm('pds-0.4', `${join(node20, 'bin')}:${process.env.PATH}`, node20),
    pds05: npm('pds-0.5', `${join(node24, 'bin')}:${process.env.PATH}`, node24),
  }
}

// Native modules are compiled against the headers that come with the runtime.
function npm(name, path, nodedir, from = join(HERE, 'npm', name)) {
  return once(name, digest(from), (into) => {
    for (const file of ['package.json', 'package-lock.json'])
      cpSync(join(from, file), join(into, file))
    const env = { ...process.env, PATH: path }
    if (nodedir) env.npm_config_nodedir = nodedir
    run('npm', ['ci', '--no-audit', '--no-fund', '--loglevel=error'], { cwd: into, env })
  })
}

function python() {
  const from = join(HERE, 'python')
  const folder = once('python', digest(from), (into) => {
    run('python3', ['-m', 'venv', join(into, 'venv')])
    const pip = ['-m', 'pip', 'install', '--quiet', '--disable-pip-version-check']
    run(join(into, 'venv/bin/python'), [...pip, '--requirement', join(from, 'requirements.txt')])
  })
  return join(folder, 'venv/bin/python')
}

function indigo() {
  const from = join(HERE, 'subscribers/indigo')
  const folder = once('indigo', digest(from), (into) => {
    run('go', ['build', '-o', join(into, 'indigo-subscriber'), '.'], { cwd: from })
  })
  return join(folder, 'indigo-subscriber')
}

// Go's checksum database vouches for the module, and its go.sum for what it depends on.
function goat(plcUrl) {
  const args = [`-ldflags=-X=${GOAT_DIRECTORY}=${plcUrl}`, GOAT]
  const folder = once(`goat-${new URL(plcUrl).port}`, args.join(' '), (into) => {
    run('go', ['install', ...args], { cwd: into, env: { ...process.env, GOBIN: into } })
  })
  return join(folder, 'goat')
}

function tap() {
  const folder = once('tap', TAP, (into) => {
    run('go', ['install', TAP], { cwd: into, env: { ...process.env, GOBIN: into } })
  })
  return join(folder, 'tap')
}

// Beside the main crate's target, so that a change builds only itself anew.
function oracle() {
  const target = join(CARGO_TARGET, 'oracle')
  if (!existsSync(target)) console.log('building the oracle (six minutes of CPU, once)')
  const env = { ...process.env, CARGO_TARGET_DIR: target }
  run('cargo', ['build', '--locked', '--quiet'], { cwd: join(HERE, 'oracle'), env })
  return join(target, 'debug/zlay-oracle')
}

/** Has `make` fill a folder, unless that was done before from the same `source`. */
function once(name, source, make) {
  const into = join(WORK, name)
  const stamp = join(into, '.installed-from')
  const wanted = `${process.arch} ${source}`
  if (existsSync(stamp) && readFileSync(stamp, 'utf8') === wanted) return into
  const started = Date.now()
  console.log(`installing ${name} into ${into}`)
  rmSync(into, { recursive: true, force: true })
  mkdirSync(into, { recursive: true })
  make(into)
  writeFileSync(stamp, wanted)
  console.log(`installed ${name} in ${Math.round((Date.now() - started) / 1000)} s`)
  return into
}

function digest(folder) {
  const hash = createHash('sha256')
  for (const file of readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath ?? entry.path, entry.name))
    .sort()) {
    hash.update(file.slice(folder.length)).update('\0').update(readFileSync(file)).update('\0')
  }
  return hash.digest('hex')
}

function run(program, args, options = {}) {
  const done = spawnSync(program, args, { stdio: ['ignore', 'inherit', 'inherit'], ...options })
  if (done.error)
    throw new Error(`${program}: ${done.error.message} (./bootstrap test-real installs it)`)
  if (done.status !== 0) throw new Error(`${program} ${args.join(' ')}: exit code ${done.status}`)
}
