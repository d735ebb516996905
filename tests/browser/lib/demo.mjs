// A simulated network with faults, and the relay that reads it: what `just demo` starts.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { join } from 'node:path'
import { CARGO_TARGET } from '../../real/lib/install.mjs'

/** How long the demo may take until it has said where everything is. */
const START_TIMEOUT_MS = 60_000

/** Starts it; `lines` gets everything that it says. */
export async function startDemo({ hosts, rate, environment = {}, log }) {
  const program = process.env.ZLAY_SIM_BIN || join(CARGO_TARGET, 'debug/zlay-sim')
  const args = ['demo', `--hosts=${hosts}`, `--rate=${rate}`, '--port=4600', '--metrics-port=4601']
  args.push(`--relay-log=${log}`)
  for (const [name, value] of Object.entries(environment)) args.push(`--env=${name}=${value}`)
  const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'pipe'] })
  const said = []
  const places = {}
  const found = new Promise((resolve, reject) => {
    const listen = (line) => {
      said.push(line)
      const [, name, value] = /^(relay|metrics|admin) +(?:password )?(\S+)/.exec(line) ?? []
      if (name) places[name] = value
      if (places.relay && places.metrics && places.admin) resolve()
    }
    createInterface({ input: child.stdout }).on('line', listen)
    createInterface({ input: child.stderr }).on('line', listen)
    child.on('error', reject)
    child.on('exit', (code) => reject(new Error(`the demo ended (${code}):\n${said.join('\n')}`)))
    setTimeout(() => reject(new Error('the demo does not start')), START_TIMEOUT_MS).unref()
  })
  await found
  return {
    url: places.relay.replace(/\/$/, ''),
    password: places.admin,
    said,
    /** Ends it; its exit code, which is 0 when the relay's output was what it had to be. */
    async stop() {
      if (child.exitCode === null) {
        child.kill('SIGINT')
        await once(child, 'exit')
      }
      return child.exitCode
    },
  }
}
