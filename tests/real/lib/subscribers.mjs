// All the subscribers.
import { join } from 'node:path'
import { Goat } from './goat.mjs'
import { HERE } from './install.mjs'
import { Subscriber } from './subscriber.mjs'

const program = (name) => join(HERE, 'subscribers', name)

/** All of them, for a relay at `url` and a directory at `plcUrl`. */
export function startSubscribers(installed, url, plcUrl) {
  const { node20, node24, pds04, pds05, python, indigo } = installed
  return [
    new Subscriber('@atproto/sync 0.1.40', node20, [program('sync.mjs'), url, plcUrl], {
      cwd: pds04,
    }),
    new Subscriber('@atproto/sync 0.4.11', node24, [program('sync.mjs'), url, plcUrl], {
      cwd: pds05,
    }),
    new Subscriber('@skyware/firehose 0.5.2', node20, [program('skyware.mjs'), url], {
      cwd: pds04,
    }),
    new Subscriber('atproto (Python) 0.0.73', python, [program('python.py'), url]),
    new Subscriber('indigo (Go)', indigo, ['-relay', url, '-plc', plcUrl], {
      resumes: '-cursor',
    }),
    new Goat(installed, url),
  ]
}
