// Reading and writing event frames with code from the registry, never with our own.
import { createRequire } from 'node:module'
import { join } from 'node:path'

/** The decoders, loaded from an installed folder. */
export function loadFrames(folder) {
  const installed = createRequire(join(folder, 'package.json'))
  const { cborDecodeMulti, cborEncode } = installed('@atproto/common')
  const { readCarWithRoot, verifyCommitSig, def } = installed('@atproto/repo')

  /** `{t, op, body, bytes}` of one frame. */
  function decode(bytes) {
    const [header, body, ...rest] = cborDecodeMulti(new Uint8Array(bytes))
    if (rest.length) throw new Error('a frame with more than two items')
    return { t: header.t, op: header.op, header, body, bytes: Buffer.from(bytes) }
  }

  /** The frame that a relay must send for an upstream frame: all the same but for `seq`. */
  function withSeq(frame, seq, omit = []) {
    const body = { ...frame.body, seq }
    for (const field of omit) delete body[field]
    return Buffer.concat([cborEncode(frame.header), cborEncode(body)])
  }

  /** The commit object in `blocks`, its CID, and whether `didKey` signed it. */
  async function commitOf(frame, didKey) {
    const { root, blocks } = await readCarWithRoot(frame.body.blocks)
    const [commit] = cborDecodeMulti(blocks.get(root))
    const object = def.commit.schema.parse(commit)
    const signed = didKey ? await verifyCommitSig(object, didKey) : false
    return { cid: root.toString(), rev: object.rev, did: object.did, signed }
  }

  return { decode, withSeq, commitOf, installed }
}

/** The account that an event is about. */
export const didOf = (frame) => frame.body.repo ?? frame.body.did
